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
from pathlib import Path

import numpy as np

from thaw import console, records
from thaw import paths as project_paths
from thaw.serving import predict

_FULL = re.compile(r"ResourceExhausted|out.of.memory|failed to allocate", re.IGNORECASE)
REMEDY = "run `dvc repro --force export`, which writes it anew"


def check(
    folder: Path, paths: Sequence[str], expected: np.ndarray, classes: Sequence[str], tolerance: float
) -> dict[str, float]:
    """Compare each way to call the exported model with what was evaluated.

    Args:
        folder: what ``write.write`` wrote.
        paths: the image files.
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
        listed.write_text(json.dumps(list(paths)), encoding="utf-8")
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
        _check_labels(way, labels, [classes[index] for index in found[way].argmax(axis=1)], paths)
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


def _check_labels(way: str, received: Sequence[str], expected: Sequence[str], paths: Sequence[str]) -> None:
    """Raise an error if a label is not the name of the likeliest class."""
    wrong = [n for n, (label, name) in enumerate(zip(received, expected, strict=True)) if label != name]
    if wrong:
        raise ValueError(
            f"the exported model ({way}) gives {len(wrong):,} of {len(expected):,} images another label than its "
            f"probabilities say: expected {expected[wrong[0]]}, received {received[wrong[0]]} for {paths[wrong[0]]}; "
            f"{REMEDY}"
        )


def _largest(expected: np.ndarray, received: np.ndarray) -> float:
    if expected.shape != received.shape or not np.isfinite(received).all():
        return float("inf")
    return float(np.max(np.abs(expected - received), initial=0))


def main() -> None:
    """Predict all images with all formats in the folder."""
    folder, listed, out = (Path(argument) for argument in sys.argv[1:4])
    paths = json.loads(listed.read_text(encoding="utf-8"))
    found: dict[str, np.ndarray] = {}
    classes: dict[str, list[str]] = {}
    labels: dict[str, list[str]] = {}
    if (folder / project_paths.LABELS).is_file():
        classes[project_paths.LABELS] = records.read_json(folder / project_paths.LABELS)["classes"]
    if (folder / project_paths.KERAS_FILE).is_file():
        exported = predict.load(folder / project_paths.KERAS_FILE)
        found["keras"], classes[f"{project_paths.LABELS} in {project_paths.KERAS_FILE}"] = (
            _ask(exported, paths),
            exported.classes,
        )
    if (folder / project_paths.SAVED_MODEL).is_dir():
        exported = predict.load(folder / project_paths.SAVED_MODEL)
        classes[f"signature classes of {project_paths.SAVED_MODEL}"] = exported.classes
        labels["saved_model"] = []
        found["saved_model"] = _ask(_noting(exported, labels["saved_model"]), paths)
        found["saved_model_images"], labels["saved_model_images"] = _ask_pixels(
            folder / project_paths.SAVED_MODEL, paths
        )
    np.savez(out, allow_pickle=False, **found)
    records.write_json(out.with_suffix(".json"), {"classes": classes, "labels": labels})


def _noting(exported: predict.Exported, noted: list[str]) -> predict.Exported:
    """Return the model, which then adds to ``noted`` the label that it predicts for each image."""

    def answer(files: Sequence[bytes]) -> np.ndarray:
        if exported.labelled is None:
            return exported.answer(files)
        probabilities, labels = exported.labelled(files)
        noted.extend(labels)
        return probabilities

    return predict.Exported(exported.classes, answer)


def _ask(exported: predict.Exported, paths: Sequence[str]) -> np.ndarray:
    rows = []
    for _, answer in predict.answers(exported, [Path(path) for path in console.track(paths, "parity", len(paths))]):
        rows.append(np.full(len(exported.classes), np.nan, np.float32) if isinstance(answer, str) else answer)
    return np.stack(rows)


def _ask_pixels(path: Path, paths: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    from thaw.config import schema  # noqa: PLC0415 -- not needed by the process that compares
    from thaw.images import preprocessing  # noqa: PLC0415
    from thaw.runtime.framework import tf  # noqa: PLC0415

    run = tf.saved_model.load(str(path)).signatures["images"]
    image = schema.Image(**records.read_json(path.parent / project_paths.LABELS)["image"])
    said = [run(images=preprocessing.decode(tf.io.read_file(file), image)[None]) for file in paths]
    labels = [name.decode() for each in said for name in each["label"].numpy()]
    return np.concatenate([each["probabilities"].numpy() for each in said]), labels


if __name__ == "__main__":
    main()
