"""The process that the parity gate starts: it knows exported files only, and answers for images by their bytes.

``python -m thaw.exports.probe RUNTIME FOLDER LIST OUT`` asks each format of FOLDER that RUNTIME answers for, in each
way there is, about every image of LIST, and writes the probabilities to OUT. Where the runtime is not TensorFlow,
importing TensorFlow or another runtime fails in here: the file and its runtime are all that answers.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from thaw import console, records
from thaw.exports import exported, formats

# What may not be imported where another runtime answers, besides what only writes files.
PACKAGES = {"tensorflow": ("tensorflow", "keras"), "onnxruntime": ("onnxruntime",), "litert": ("ai_edge_litert",)}
WRITERS = ("tf2onnx", "onnx", "ai_edge_quantizer", "mlflow", "hydra", "omegaconf")


def main() -> None:
    """Predict all images with all formats of one runtime in the folder."""
    runtime, folder, listed, out = sys.argv[1], *map(Path, sys.argv[2:5])
    if runtime != "tensorflow":
        others = (name for other, names in PACKAGES.items() if other != runtime for name in names)
        sys.modules.update(dict.fromkeys((*others, *WRITERS)))  # type: ignore[arg-type]  # None: importing it fails
    files = json.loads(listed.read_text(encoding="utf-8"))
    found: dict[str, np.ndarray] = {}
    classes: dict[str, list[str]] = {}
    labels: dict[str, list[str]] = {}
    for name, form in formats.present(folder).items():
        if form.about.runtime != runtime:
            continue
        loaded = formats.load(folder, name)
        classes[form.classes] = loaded.classes
        path = folder / form.about.file
        asked = [ask(loaded, files), *(probe(path, files) for probe in form.probes.values())]
        for way, (probabilities, said) in zip(form.ways(name), asked, strict=True):
            found[way] = probabilities
            labels |= {way: said} if said else {}
    np.savez(out, allow_pickle=False, **found)
    records.write_json(out.with_suffix(".json"), {"classes": classes, "labels": labels})


def ask(loaded: exported.Exported, files: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Return the probabilities, NaN where there are none, and the labels that the model gives, if it gives any."""
    labels: list[str] = []
    rows = []
    for _, answer in exported.answers(
        noting(loaded, labels), list(map(Path, console.track(files, "parity", len(files))))
    ):
        rows.append(np.full(len(loaded.classes), np.nan, np.float32) if isinstance(answer, str) else answer)
    return np.stack(rows), labels


def noting(loaded: exported.Exported, noted: list[str]) -> exported.Exported:
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
