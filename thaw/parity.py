"""The parity gate: an exported model, loaded in a process of its own, must say what the evaluated one said.

``python -m thaw.parity FOLDER LIST OUT`` is that process: it knows the exported files only, answers for every image of
LIST with each way there is to ask, and writes the probabilities to OUT.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from thaw import layout, predict, progress, records


def check(folder: Path, paths: Sequence[str], expected: np.ndarray, tolerance: float) -> dict[str, float]:
    """Compare each way to ask the exported model with what was evaluated.

    Args:
        folder: what ``exporting.write`` wrote.
        paths: the image files.
        expected: (images, classes) float32, the evaluated probabilities.
        tolerance: the largest difference of a probability that is let pass.

    Returns:
        The largest difference by way to ask.

    Raises:
        ValueError: a difference is larger, or the exported model does not load.
    """
    with tempfile.TemporaryDirectory() as scratch:
        listed, out = Path(scratch, "paths.json"), Path(scratch, "probabilities.npz")
        listed.write_text(json.dumps(list(paths)), encoding="utf-8")
        command = [sys.executable, "-m", "thaw.parity", str(folder), str(listed), str(out)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            last = done.stderr.strip().splitlines()[-1:] or ["no message"]
            raise ValueError(f"the exported model does not load in a fresh process: {last[0]}")
        with np.load(out, allow_pickle=False) as answers:
            differences = {way: _largest(expected, answers[way]) for way in answers.files}
    if not differences:
        raise ValueError(f"{folder}: expected an exported model, found none")
    for way, difference in differences.items():
        if not difference <= tolerance:
            raise ValueError(
                f"the exported model ({way}) differs from the evaluated one by {difference:.1e} in a probability, "
                f"export.tolerance is {tolerance:.0e}"
            )
    return differences


def _largest(expected: np.ndarray, received: np.ndarray) -> float:
    if expected.shape != received.shape or not np.isfinite(received).all():
        return float("inf")
    return float(np.max(np.abs(expected - received), initial=0))


def main() -> None:
    """Answer for all images with all that is in the folder."""
    folder, listed, out = (Path(argument) for argument in sys.argv[1:4])
    paths = json.loads(listed.read_text(encoding="utf-8"))
    found: dict[str, np.ndarray] = {}
    if (folder / layout.KERAS_FILE).is_file():
        found["keras"] = _ask(predict.load(folder / layout.KERAS_FILE), paths)
    if (folder / layout.SAVED_MODEL).is_dir():
        found["saved_model"] = _ask(predict.load(folder / layout.SAVED_MODEL), paths)
        found["saved_model_images"] = _ask_pixels(folder / layout.SAVED_MODEL, paths)
    np.savez(out, allow_pickle=False, **found)


def _ask(exported: predict.Exported, paths: Sequence[str]) -> np.ndarray:
    rows = []
    for _, answer in predict.answers(exported, [Path(path) for path in progress.track(paths, "parity", len(paths))]):
        rows.append(np.full(len(exported.classes), np.nan, np.float32) if isinstance(answer, str) else answer)
    return np.stack(rows)


def _ask_pixels(path: Path, paths: Sequence[str]) -> np.ndarray:
    from thaw import preprocessing, schema  # noqa: PLC0415 -- not needed by the process that compares
    from thaw.framework import tf  # noqa: PLC0415

    run = tf.saved_model.load(str(path)).signatures["images"]
    image = schema.Image(**records.read_json(path.parent / layout.LABELS)["image"])
    decoded = (preprocessing.decode(tf.io.read_file(file), image)[None] for file in paths)
    return np.concatenate([run(images=pixels)["probabilities"].numpy() for pixels in decoded])


if __name__ == "__main__":
    main()
