"""The parity gate: an exported model, loaded in a fresh process, must predict what the evaluated model predicted.

That is the probabilities, the names of the classes in each place where the model holds them, and the label that it
gives each image itself.

``python -m thaw.exports.parity FOLDER LIST OUT`` is that process: it knows the exported files only, answers for every
image of LIST with each way there is to ask, and writes the probabilities to OUT.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from thaw import console, paths, records
from thaw.exports import exported, formats

_FULL = re.compile(r"ResourceExhausted|out.of.memory|failed to allocate", re.IGNORECASE)
REMEDY = "run `dvc repro --force export`, which writes it anew"


def check(
    folder: Path, files: Sequence[str], expected: np.ndarray, classes: Sequence[str], tolerance: float
) -> dict[str, float]:
    """Compare each way to call the exported model with what was evaluated.

    Args:
        folder: what ``write.write`` wrote.
        files: the image files.
        expected: (images, classes) float32, the evaluated probabilities.
        classes: the names that belong to them, of the images that were prepared.
        tolerance: the largest difference of a probability that is let pass.

    Returns:
        The largest difference by way to ask.

    Raises:
        ValueError: a difference is larger, a name is another, or the exported model does not load.
    """
    with tempfile.TemporaryDirectory() as scratch:
        listed, out = Path(scratch, "paths.json"), Path(scratch, "answers.npz")
        listed.write_text(json.dumps(list(files)), encoding="utf-8")
        command = [sys.executable, "-m", "thaw.exports.parity", str(folder), str(listed), str(out)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            if _FULL.search(done.stderr):
                raise ValueError(
                    "export: expected GPU memory for a process that loads the exported model, found too little; "
                    "end what else computes there, or give the command again with CUDA_VISIBLE_DEVICES= before it"
                )
            last = done.stderr.strip().splitlines()[-1:] or ["no message"]
            raise ValueError(f"the exported model does not load in a fresh process: {last[0]}")
        with np.load(out, allow_pickle=False) as answers:
            found = {way: answers[way] for way in answers.files}
        named = records.read_json(out.with_suffix(".json"))
    if not found:
        raise ValueError(f"{folder}: expected an exported model, found none")
    for place, names in named["classes"].items():
        _check_names(place, names, classes)
    differences = {way: _largest(expected, probabilities) for way, probabilities in found.items()}
    for way, difference in differences.items():
        if not difference <= tolerance:
            raise ValueError(
                f"the exported model ({way}) differs from the evaluated one by {difference:.1e} in a probability, "
                f"export.tolerance is {tolerance:.0e}"
            )
    for way, labels in named["labels"].items():
        _check_labels(way, labels, [classes[index] for index in found[way].argmax(axis=1)], files)
    return differences


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


def _largest(expected: np.ndarray, received: np.ndarray) -> float:
    if expected.shape != received.shape or not np.isfinite(received).all():
        return float("inf")
    return float(np.max(np.abs(expected - received), initial=0))


def main() -> None:
    """Predict all images with all formats in the folder."""
    folder, listed, out = (Path(argument) for argument in sys.argv[1:4])
    files = json.loads(listed.read_text(encoding="utf-8"))
    found: dict[str, np.ndarray] = {}
    classes: dict[str, list[str]] = {}
    labels: dict[str, list[str]] = {}
    if (folder / paths.LABELS).is_file():
        classes[paths.LABELS] = records.read_json(folder / paths.LABELS)["classes"]
    for name, form in formats.FORMATS.items():
        path = folder / form.about.file
        if not form.is_one(path):
            continue
        loaded = formats.load(path)
        classes[form.classes] = loaded.classes
        asked = [_ask(loaded, files), *(probe(path, files) for probe in form.probes.values())]
        for way, (probabilities, said) in zip(form.ways(name), asked, strict=True):
            found[way] = probabilities
            labels |= {way: said} if said else {}
    np.savez(out, allow_pickle=False, **found)
    records.write_json(out.with_suffix(".json"), {"classes": classes, "labels": labels})


def _ask(loaded: exported.Exported, files: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Return the probabilities, NaN where there are none, and the labels that the model gives, if it gives any."""
    labels: list[str] = []
    rows = []
    for _, answer in exported.answers(
        _noting(loaded, labels), list(map(Path, console.track(files, "parity", len(files))))
    ):
        rows.append(np.full(len(loaded.classes), np.nan, np.float32) if isinstance(answer, str) else answer)
    return np.stack(rows), labels


def _noting(loaded: exported.Exported, noted: list[str]) -> exported.Exported:
    """Return the model, which then adds to ``noted`` the label of each image that it answers for."""

    def answer(contents: Sequence[bytes]) -> np.ndarray:
        if loaded.labelled is None:
            return loaded.answer(contents)
        probabilities, said = loaded.labelled(contents)
        noted.extend(said)
        return probabilities

    return replace(loaded, answer=answer)


if __name__ == "__main__":
    main()
