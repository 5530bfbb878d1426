"""Validate every image file once: what can be trained on, and what cannot, why, and what to do about it.

Files are opened for reading only, and read once: for the hash, the decoding and the likeness; those that are as they
were in an earlier run not even that (``thaw.data.file_hashes``). All that is accepted is
decoded by training (``thaw.images.decoding``), so that no run stops at a bad file hours later.
"""

import heapq
import shutil
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from thaw import console, paths
from thaw.config import schema
from thaw.data import file_hashes, folders, issues, judgement, validation_cache
from thaw.data.issues import Finding
from thaw.data.judgement import Verdict
from thaw.data.packed import Rows
from thaw.data.samples import Sample
from thaw.data.table import Entry
from thaw.images import bit_depth
from thaw.runtime import threads

COLUMNS = ("path", "kind", "action", "reason", "remedy")
LISTED = 100  # findings of a kind that the figures list; a folder may hold nothing but palettes
BATCH = 16  # files that a thread judges before it reports: reporting costs as much as decoding a small image
# Each holds an image in memory, of 0.3 GB at the default limit, and more of them would wait for Python.
MOST_WORKERS = 8

Track = Callable[[Iterable[Verdict], str, int], Iterator[Verdict]]


@dataclass
class Outcome:
    """The outcome of validation; lists are sorted by path."""

    classes: list[str]  # sorted as text, so "10" goes before "2"
    samples: Rows[Sample] = field(default_factory=lambda: Rows(Sample))
    findings: Rows[Finding] = field(default_factory=lambda: Rows(Finding))
    ignored: int = 0  # hidden files and what systems leave behind

    def quarantined(self) -> list[Finding]:
        """Return the findings for which files were left out; a file may have several."""
        left_out = self.findings.columns["action"].are("quarantined")
        return [self.findings[place] for place in np.flatnonzero(left_out).tolist()]

    def bad(self) -> set[str]:
        """Return the files that were left out for what they are; a class that is left out is not made of bad files."""
        return {finding.path for finding in self.quarantined() if finding.kind != "few"}


def read(data: schema.Data, track: Track = lambda found, _description, _total: iter(found)) -> Outcome:
    """Find, hash and decode every file, several at a time, and write a PNG of each that training cannot decode.

    Args:
        data: where the files are, and what is done about each kind of bad or odd ones.
        track: wraps the iterator over results, to show progress: ``(results, description, total)``.

    Raises:
        ValueError: the folder or table is missing, or is not laid out as ``thaw.data.folders`` expects.
    """
    found = folders.find(data.raw, data.nested)
    entries = found.entries.sorted_by("path")
    shutil.rmtree(paths.CONVERTED, ignore_errors=True)
    Image.init()  # Pillow's plugins are loaded once, before threads would each try
    known = validation_cache.judgements(judgement.version(judgement.stretches(data)))
    with known, file_hashes.memo() as kept, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Pillow warns of is either refused here or harmless
        for share in (file_hashes.share(len(entries)), 1.0):
            hashes = file_hashes.FileHashes(kept, share)
            samples = Rows(Sample, folder=known.path.parent)
            outcome = Outcome(found.classes, samples, ignored=found.ignored)
            verdicts = _parallel(partial(judgement.judge, found.root, data=data, known=known, hashes=hashes), entries)
            for sample, odd in track(verdicts, "images", len(entries)):
                outcome.samples.extend([sample] if sample else [])
                outcome.findings.extend(sorted(odd, key=lambda finding: finding.kind))
            if share == 1 or not hashes.wrong:
                break
            console.warn(
                f"{hashes.wrong[0]}: expected the bytes that it had, since its size and times are as they were, "
                "received others; all files are read again. Is the disk damaged?"
            )
    others = sorted([*found.findings, *_leave_out_small_classes(outcome, found.findings, data)], key=_order)
    if others:
        outcome.findings = Rows(Finding, heapq.merge(others, outcome.findings, key=_order))
    _tell_of_unused_bits(outcome, data)
    return outcome


def _order(finding: Finding) -> tuple[str, str]:
    return finding.path, finding.kind


def rows(outcome: Outcome) -> Iterator[dict[str, str]]:
    """Return the rows of ``paths.QUARANTINE``, under ``COLUMNS``."""
    return map(_row, outcome.findings)


def _row(finding: Finding) -> dict[str, str]:
    return {name: getattr(finding, name) for name in COLUMNS}


def check(outcome: Outcome, data: schema.Data) -> None:
    """Stop where the policies or the share of bad files say so. Call it after the list was written.

    Raises:
        ValueError: a kind of finding whose policy is to fail, or more bad files than ``data.max_bad_share``.
    """
    fatal = [each for each in outcome.quarantined() if getattr(data.policy, each.kind) == "fail"]
    bad, total = outcome.bad(), len(outcome.samples) + len(outcome.bad())
    if len(bad) > data.max_bad_share * total:
        kinds = Counter(each.kind for each in outcome.quarantined() if each.kind != "few")
        first = next(each for each in outcome.quarantined() if each.kind != "few")
        raise ValueError(
            f"data.max_bad_share: expected {data.max_bad_share:.1%} bad files at most, received {len(bad):,} of "
            f"{total:,} ({', '.join(f'{count:,} {kind}' for kind, count in kinds.most_common())}; first {first.path}: "
            f"{first.reason}); {paths.QUARANTINE} lists them, with what to do about each"
        )
    if fatal:
        kind, same = fatal[0].kind, [each for each in fatal if each.kind == fatal[0].kind]
        others = sorted({each.kind for each in fatal} - {kind})
        raise ValueError(
            f"{same[0].path}: {same[0].reason}; {same[0].remedy}; data.policy.{kind} is fail (found: "
            f"{len(same):,}{', beside ' + ', '.join(others) if others else ''}): {paths.QUARANTINE} lists them"
        )
    if len(outcome.classes) < 2:
        raise ValueError(
            f"data.min_per_class: expected 2 classes with {data.min_per_class} images, received "
            f"{', '.join(outcome.classes) or 'none'}; {paths.QUARANTINE} lists what was left out"
        )


def figures(outcome: Outcome) -> dict[str, Any]:
    """Count the findings by kind, and list each file left out and the first ``LISTED`` files kept of each kind."""
    kept: list[Finding] = []
    counts: Counter[str] = Counter()
    for each in outcome.findings:
        counts[each.kind] += 1
        if each.action != "quarantined" and counts[each.kind] <= LISTED:
            kept.append(each)
    return {
        "refused": len(outcome.bad()),
        "ignored": outcome.ignored,
        "kinds": {kind: counts[kind] for kind in issues.REMEDIES},
        "converted": sum(map(bool, outcome.samples.columns["converted"])),
        "quarantine": [_row(each) for each in outcome.quarantined()],
        "kept": [_row(each) for each in kept],
    }


def _parallel(work: Callable[[Entry], Verdict], entries: Sequence[Entry]) -> Iterator[Verdict]:
    """Yield the results in order. A few tasks wait at a time, or a hundred thousand would be held in memory."""
    workers = min(threads.used(), MOST_WORKERS)
    pool = ThreadPoolExecutor(workers)  # Pillow's decoders leave Python to other threads
    waiting: deque[Future[list[Verdict]]] = deque()
    try:
        for first in range(0, len(entries), BATCH):
            waiting.append(pool.submit(lambda batch: list(map(work, batch)), entries[first : first + BATCH]))
            if len(waiting) > 4 * workers:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _tell_of_unused_bits(outcome: Outcome, data: schema.Data) -> None:
    used = Counter(each.reason for each in outcome.findings if each.kind == "unused_bits")
    if used:
        deep = outcome.findings.columns["kind"].count("deep")
        console.warn(bit_depth.told(used, deep, data.policy.unused_bits))


def _leave_out_small_classes(outcome: Outcome, found: Sequence[Finding], data: schema.Data) -> list[Finding]:
    """Leave out the classes that have too few images, and return what is said of them; where that is to fail,
    ``check`` does it after the list.

    Args:
        found: what was found before any file was read.
    """
    labels = outcome.samples.columns["label"]
    counts = dict(zip(labels.values, np.bincount(labels.codes, minlength=len(labels.values)).tolist(), strict=True))
    few = [label for label in outcome.classes if counts.get(label, 0) < data.min_per_class]
    if not few:
        return []
    # Of the class's folder, in a split or not.
    closed = {each.path: each.reason for each in (*found, *outcome.findings) if each.kind in ("link", "unreadable")}
    closed |= {path.partition("/")[2]: reason for path, reason in closed.items()}
    said = []
    for label in few:
        reason = f"a class of {counts.get(label, 0)} usable images, data.min_per_class is {data.min_per_class}"
        reason += f" ({closed[label]})" if label in closed else ""
        said.append(Finding("few", label, reason))
    outcome.classes = [label for label in outcome.classes if label not in few]
    numbers = [code for code, label in enumerate(labels.values) if label in few]
    outcome.samples = outcome.samples.take(np.flatnonzero(~np.isin(labels.codes, numbers)).tolist())
    return said
