"""Validate every image file once: what can be trained on, and what cannot, why, and what to do about it.

Files are opened for reading only, and read once: for the hash, the decoding and the likeness; those that are as they
were in an earlier run not even that (``thaw.data.file_hashes``). All that is accepted is
decoded by training (``thaw.images.decoding``), so that no run stops at a bad file hours later.
"""

import hashlib
import heapq
import shutil
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from PIL import Image, features

from thaw import console, paths, records
from thaw.config import policy, schema
from thaw.data import file_hashes, fingerprints, folders, issues, validation_cache
from thaw.data.issues import Finding
from thaw.data.packed import Rows
from thaw.data.samples import Sample
from thaw.data.table import Entry
from thaw.images import bit_depth, content, decoding, header
from thaw.images.integrity import Unusable
from thaw.runtime import code_version, threads

COLUMNS = ("path", "kind", "action", "reason", "remedy")
LISTED = 100  # findings of a kind that the figures list; a folder may hold nothing but palettes
BATCH = 16  # files that a thread judges before it reports: reporting costs as much as decoding a small image
# Each holds an image in memory, of 0.3 GB at the default limit, and more of them would wait for Python.
MOST_WORKERS = 8

Verdict = tuple["Sample | None", list[Finding]]
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
    known = validation_cache.judgements(version(_stretch(data)))
    with known, file_hashes.memo() as kept, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Pillow warns of is either refused here or harmless
        for share in (file_hashes.share(len(entries)), 1.0):
            hashes = file_hashes.FileHashes(kept, share)
            samples = Rows(Sample, folder=known.path.parent)
            outcome = Outcome(found.classes, samples, ignored=found.ignored)
            verdicts = _parallel(partial(_judge, found.root, data=data, known=known, hashes=hashes), entries)
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


def version(stretch: bool) -> str:
    """Return a hash that changes with the code that judges files and with the decoders that it calls."""
    total = hashlib.sha256(f"{PIL.__version__} {stretch}".encode())
    total.update(code_version.of("data", "images").encode())
    for name in ("libjpeg_turbo", "libtiff", "webp", "zlib"):
        total.update(f"{name} {features.version(name)}".encode())
    return total.hexdigest()[:16]


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


def _judge(
    root: Path, entry: Entry, data: schema.Data, known: validation_cache.Memo, hashes: file_hashes.FileHashes
) -> Verdict:
    try:
        held, sha256, record = _read(root / entry.path, known, hashes)
        record, pixels = look(held, sha256, record, data, known)
    except Unusable as refused:
        return None, [Finding(refused.kind, entry.path, refused.reason)]
    oddities = dict(record["oddities"])
    named = Image.EXTENSION.get(Path(entry.path).suffix.lower())
    if named and header.KINDS.get(named, named) != record["format"]:
        oddities["misnamed"] = f"a {record['format']} by its bytes"
    if min(record["width"], record["height"]) < data.min_side:
        oddities["small"] = f"{record['width']} × {record['height']}, below {data.min_side} pixels"
    used = ("keep", policy.STRETCH)
    refused_for = [kind for kind in oddities if getattr(data.policy, kind) not in used]
    if refused_for:
        return None, [Finding(kind, entry.path, oddities[kind]) for kind in refused_for]
    actions = {"converted": "converted"} | ({"unused_bits": "stretched"} if _stretch(data) else {})
    odd = [Finding(kind, entry.path, reason, actions.get(kind, "kept")) for kind, reason in oddities.items()]
    place = (entry.path, sha256, entry.label, entry.split, record["width"], record["height"], record["fingerprint"])
    sample = Sample(*place, entry.group, entry.weight)
    if "converted" in oddities:
        sample.converted = _convert(pixels or _inspect(held, data)[1], sha256)
    return sample, odd


def _read(
    path: Path, known: validation_cache.Memo, hashes: file_hashes.FileHashes
) -> tuple[bytes, str, dict[str, Any] | None]:
    """Return the bytes of a file, none where all is known that they would be read for, their hash, and the memo's."""
    began, before = time.time_ns(), content.status(path)
    sha256 = hashes.known(before)
    record = known.get(sha256) if sha256 else None
    if record and "converted" not in record.get("oddities", {}) and not hashes.look_again():
        return b"", sha256, record
    held = content.read(path)
    found = hashlib.sha256(held).hexdigest()
    if sha256 not in ("", found):
        hashes.wrong.append(str(path))
    hashes.keep(path, before, began, found)
    return held, found, record if found == sha256 else known.get(found)


def look(
    held: bytes, sha256: str, record: dict[str, Any] | None, data: schema.Data, known: validation_cache.Kept
) -> tuple[dict[str, Any], Image.Image | None]:
    """Return what the content is, from the memo or by decoding it; the pixels too if decoded. Raises ``Unusable``."""
    pixels = None
    if record is None:
        try:
            picture, pixels = _inspect(held, data)
            record = vars(picture) | {"fingerprint": fingerprints.fingerprint(pixels)}
        except Unusable as refused:
            if refused.kind == "too_large":  # which the settings decide, not the content
                raise
            record = {"kind": refused.kind, "reason": refused.reason}
        known.put(sha256, record)
    if "kind" in record:
        raise Unusable(record["kind"], record["reason"])
    if record["width"] * record["height"] > data.max_pixels:
        raise Unusable("too_large", header.beyond(record["width"], record["height"], data.max_pixels))
    return record, pixels


def _inspect(held: bytes, data: schema.Data) -> tuple[decoding.Picture, Image.Image]:
    return decoding.inspect(held, data.max_pixels, stretch=_stretch(data))


def _stretch(data: schema.Data) -> bool:
    return data.policy.unused_bits == policy.STRETCH


def _tell_of_unused_bits(outcome: Outcome, data: schema.Data) -> None:
    used = Counter(each.reason for each in outcome.findings if each.kind == "unused_bits")
    if used:
        deep = outcome.findings.columns["kind"].count("deep")
        console.warn(bit_depth.told(used, deep, data.policy.unused_bits))


def _convert(pixels: Image.Image, sha256: str) -> str:
    """Write the PNG that is read in place of a file, and return its hash."""
    made, path = decoding.png(pixels), paths.converted(sha256)
    records.write_bytes(path, made)  # files with the same bytes may be judged at the same time
    return hashlib.sha256(made).hexdigest()


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
