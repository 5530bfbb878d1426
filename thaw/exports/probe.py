"""The process that the parity gate starts: it decodes images as training does and asks the exported files about them.

``python -m thaw.exports.probe RUNTIME FOLDER LIST OUT`` asks each format of FOLDER that RUNTIME answers for, in each
way there is, about every image of LIST, and writes the probabilities to OUT. Where the runtime is not TensorFlow,
importing TensorFlow or another runtime fails in here: the file and its runtime are all that answers.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from thaw import console, records
from thaw.exports import exported, formats

# What may not be imported where another runtime answers, besides what only writes files.
PACKAGES = {"tensorflow": ("tensorflow", "keras"), "onnxruntime": ("onnxruntime",), "litert": ("ai_edge_litert",)}
SCORES = "unfamiliarity of "  # before a way to ask, the name of the scores that it gives
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
        for way, answers in zip(form.ways(name), asked, strict=True):
            found[way] = np.stack([each.probabilities for each in answers])
            labels |= {way: said} if any(said := [each.label for each in answers]) else {}
            scores = [each.unfamiliarity for each in answers]
            if any(score is not None for score in scores):
                found[SCORES + way] = np.array([np.nan if score is None else score for score in scores], np.float32)
    np.savez(out, allow_pickle=False, **found)
    records.write_json(out.with_suffix(".json"), {"classes": classes, "labels": labels})


def ask(loaded: exported.Exported, files: Sequence[str]) -> list[exported.Answer]:
    """Return the answer for each image, of NaN where there is none."""
    none = exported.Answer(np.full(len(loaded.classes), np.nan, np.float32))
    shown = list(map(Path, console.track(files, "parity", len(files))))
    return [none if isinstance(answer, str) else answer for _, answer in exported.answers(loaded, shown)]


if __name__ == "__main__":
    main()
