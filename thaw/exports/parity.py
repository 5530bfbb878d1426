"""The parity gate: an exported model, loaded in a fresh process, must predict what the evaluated model predicted.

That is the probabilities, the names of the classes in each place where the model holds them, and the label that it
gives each image itself. A format in float32 must give each probability within ``export.tolerance``; one of float16 or
int8 must give the same answers, as far as that can be told (``thaw.exports.agreement``).

Each runtime answers in a process of its own, ``thaw.exports.probe``.
"""

import hashlib
import json
import re
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from thaw import paths, records
from thaw.catalog import export_formats
from thaw.config import schema
from thaw.exports import agreement, formats, hashes, probe, unfamiliarity

_FULL = re.compile(r"ResourceExhausted|out.of.memory|failed to allocate", re.IGNORECASE)
REMEDY = "run `dvc repro --force export`, which writes it anew"
WORST = 16  # images by which the cause of a difference is sought


@dataclass(frozen=True)
class Probes:
    """The images that each format is asked about, and what it must say."""

    files: Sequence[str]
    expected: np.ndarray  # (images, classes) float32, the evaluated probabilities
    labels: np.ndarray | None = None  # (images,) int64; None: not known
    units: np.ndarray | None = None  # (images,) equal numbers for images that are no independent ones
    odd: Mapping[str, tuple[bytes, np.ndarray]] = field(default_factory=dict)  # encoded images and their probabilities
    # (images and odd ones,) float32, how unlike the training images they are; None: that is not known
    unfamiliarity: np.ndarray | None = None
    rounding: float = 0.0  # share of these that is there because embeddings are evaluated in float16


_NONE = "none of range, channels, resize, EXIF and labels explains it"
UNKNOWN = f"{_NONE}: other weights, or rounding"
SCALE = f"{_NONE}: a wrong scale, or ranges found on too few images (export.calibration)"  # of float16 and int8
UNEXPLAINED = ("", UNKNOWN, SCALE)
# Image files, the (images, classes) that a format gives for them, and whether it computes in float32 → the likely
# cause of what is wrong with these, or one of ``UNEXPLAINED``
Explain = Callable[[Sequence[bytes], np.ndarray, bool], str]


def unexplained(_files: Sequence[bytes], _received: np.ndarray, _exact: bool) -> str:
    """Return no cause."""
    return ""


def check(
    folder: Path,
    probes: Probes,
    classes: Sequence[str],
    options: schema.Export,
    explain: Explain = unexplained,
    kept: Path | None = None,
) -> dict[str, dict[str, Any]]:
    """Compare each way to call the exported model with what was evaluated.

    Args:
        folder: what ``write.write`` wrote.
        probes: the images, test images first.
        classes: the names that belong to the probabilities, of the images that were prepared.
        options: how exactly they must agree.
        explain: seeks the cause where they don't.
        kept: a folder for answers, of which those of the same files and images are not asked for again.

    Returns:
        Figures by way to ask.

    Raises:
        ValueError: an answer is another, a name is another, or the exported model does not load.
    """
    with tempfile.TemporaryDirectory() as scratch, records.room_said(Path(scratch)):
        files = [*probes.files, *_written(probes.odd, Path(scratch))]
        expected = np.concatenate([probes.expected, *(row[None] for _, row in probes.odd.values())])
        names = [*probes.files, *probes.odd]
        found, scores, named = _asked(folder, files, Path(scratch), kept or Path(scratch))
        if not found:
            raise ValueError(f"{folder}: expected an exported model, found none")
        for place, said in named["classes"].items():
            _check_names(place, said, classes)
        figures = {}
        for way, received in found.items():
            worst, exact = np.argsort(-_differences(expected, received))[:WORST], _form(way).exact
            differing = [_content(files[index]) for index in worst]
            try:
                figures[way] = _compared(way, received, expected, probes, options, names)
            except ValueError as error:
                cause = explain(differing, received[worst], exact)
                raise ValueError(f"{error}{cause and f'; likely cause: {cause}'}") from None
            # What rounds may give nearly the same answers and be asked wrongly all the same.
            if not exact and (cause := explain(differing, received[worst], exact)) not in UNEXPLAINED:
                raise ValueError(
                    f"the exported model ({way}) gives the evaluated answers, but its probabilities differ as by a "
                    f"fault of preprocessing, most in {names[worst[0]]}; likely cause: {cause}"
                )
            if probes.unfamiliarity is not None and _form(way).scores:
                most = unfamiliarity.TOLERANCE if exact else unfamiliarity.TOLERANCE_OF_ROUNDED
                most += probes.rounding
                figures[way] |= unfamiliarity.compared(way, probes.unfamiliarity, scores.get(way), most, names)
        for way, labels in named["labels"].items():
            _check_labels(way, labels, [classes[index] for index in found[way].argmax(axis=1)], names)
    return figures


def _content(file: str) -> bytes:
    """Return the bytes of an image file; none where it has gone, which is a reason to fail, too."""
    path = Path(file)
    return path.read_bytes() if path.is_file() else b""


def _written(odd: Mapping[str, tuple[bytes, np.ndarray]], folder: Path) -> list[str]:
    """Write images to files; return their paths."""
    paths_ = [folder / f"odd_{number}" for number in range(len(odd))]
    for path, (data, _) in zip(paths_, odd.values(), strict=True):
        path.write_bytes(data)
    return list(map(str, paths_))


def _asked(
    folder: Path, files: Sequence[str], scratch: Path, kept: Path
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, Any]]:
    """Return what each format says, by way to ask: probabilities, scores of unlike images, and the names of classes
    and labels. There is a process for each runtime.
    """
    listed = scratch / "paths.json"
    listed.write_text(json.dumps(list(files)), encoding="utf-8")
    present = formats.present(folder)
    runtimes = list(dict.fromkeys(form.about.runtime for form in present.values()))
    about = [hashes.digest(folder / form.about.file) for form in present.values()]
    of = hashlib.sha256(json.dumps([about, [Path(file).name for file in files]]).encode()).hexdigest()

    def ask(runtime: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        answers = kept / f"{runtime}-{of}.npz"
        if (before := _said(answers)) is not None:
            return before
        out = scratch / f"asked-{runtime}.npz"
        command = [sys.executable, "-m", "thaw.exports.probe", runtime, str(folder), str(listed), str(out)]
        _check_process(subprocess.run(command, capture_output=True, text=True, check=False))
        for ending in (".npz", ".json"):
            records.write_bytes(answers.with_suffix(ending), out.with_suffix(ending).read_bytes())
        return _said(answers) or ({}, named)

    found: dict[str, np.ndarray] = {}
    named: dict[str, Any] = {"classes": {}, "labels": {}}
    if (folder / paths.LABELS).is_file():
        named["classes"][paths.LABELS] = records.read_json(folder / paths.LABELS)["classes"]
    with ThreadPoolExecutor(max(1, len(runtimes))) as pool:
        for answers, said in pool.map(ask, runtimes):
            found |= answers
            named["classes"] |= said["classes"]
            named["labels"] |= said["labels"]
    ordered = [way for name, form in present.items() for way in form.ways(name)]
    scores = {way: found[probe.SCORES + way] for way in ordered if probe.SCORES + way in found}
    return {way: found[way] for way in ordered}, scores, named


def _said(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
    """Return what a process wrote; None where it is not there, or damaged."""
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as answers:
            return dict(answers), records.read_json(path.with_suffix(".json"))
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error):
        return None


def _check_process(done: subprocess.CompletedProcess[str]) -> None:
    if not done.returncode:
        return
    if _FULL.search(done.stderr):
        raise ValueError(
            "export: expected GPU memory for a process that loads the exported model, found too little; "
            "end what else computes there, or give the command again with CUDA_VISIBLE_DEVICES= before it"
        )
    last = done.stderr.strip().splitlines()[-1:] or ["no message"]
    raise ValueError(f"the exported model does not load in a fresh process: {last[0]}")


def _compared(
    way: str, received: np.ndarray, expected: np.ndarray, probes: Probes, options: schema.Export, names: Sequence[str]
) -> dict[str, Any]:
    """Return the figures of one way to ask.

    Raises:
        ValueError: it does not say what was evaluated.
    """
    differences = _differences(expected, received)
    at = int(differences.argmax())
    figures: dict[str, Any] = {"largest_difference": float(differences[at])}
    if _form(way).exact or not np.isfinite(differences).all():
        if not differences[at] <= options.tolerance:
            raise ValueError(
                f"the exported model ({way}) differs from the evaluated one by {differences[at]:.1e} in a probability "
                f"of {names[at]}, export.tolerance is {options.tolerance:.0e}"
            )
        return figures
    tested = len(probes.files)
    figures |= agreement.figures(probes.expected, received[:tested], probes.labels, probes.units)
    agreement.check(way, figures, options, names[at])
    return figures


def _form(way: str) -> export_formats.Format:
    """Return the format that a way to ask belongs to."""
    return next(form.about for name, form in formats.FORMATS.items() if way in form.ways(name))


def _differences(expected: np.ndarray, received: np.ndarray) -> np.ndarray:
    """Return the largest difference of a probability by image, infinite where there is no answer."""
    if expected.shape != received.shape:
        return np.full(len(expected), np.inf)
    found: np.ndarray = np.nan_to_num(np.abs(expected - received).max(axis=1), nan=np.inf)
    return found


def _check_names(place: str, received: Sequence[str], expected: Sequence[str]) -> None:
    """Raise an error if the classes of the exported model are not those of the images, in their order."""
    if list(received) == list(expected):
        return
    at = next((n for n, pair in enumerate(zip(received, expected, strict=False)) if pair[0] != pair[1]), None)
    told = (
        f"expected {len(expected)} classes, received {len(received)}"
        if at is None
        else f"expected class {at} to be {expected[at]}, received {received[at]}"
    )
    raise ValueError(f"{place} of the exported model: {told}; {REMEDY}")


def _check_labels(way: str, received: Sequence[str], expected: Sequence[str], files: Sequence[str]) -> None:
    """Raise an error if a label is not the name of the likeliest class."""
    wrong = [n for n, (label, name) in enumerate(zip(received, expected, strict=True)) if label != name]
    if wrong:
        raise ValueError(
            f"the exported model ({way}) gives {len(wrong):,} of {len(expected):,} images another label than its "
            f"probabilities say: expected {expected[wrong[0]]}, received {received[wrong[0]]} for {files[wrong[0]]}; "
            f"{REMEDY}"
        )
