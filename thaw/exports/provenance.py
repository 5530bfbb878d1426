"""What an exported model came of, and the temperature that its probabilities were calibrated with. No TensorFlow."""

import hashlib
from importlib import metadata
from pathlib import Path

import numpy as np

from thaw import paths, records
from thaw.images import columns

VERSION = metadata.version("thaw")
WRITERS = ("ai-edge-litert", "ai-edge-quantizer", "onnx", "onnxruntime", "tf2onnx")


def hashes(weights: Path) -> dict[str, str]:
    """Return what each format carries: this program's version, and hashes of the weights and of the images.

    Args:
        weights: the file of the classifier's weights.
    """
    return {"thaw": VERSION, "weights": records.sha256(weights), "data": _images()}


def writers() -> dict[str, str]:
    """Return the versions of the packages that write formats."""
    return {name: metadata.version(name) for name in WRITERS}


def _images() -> str:
    """Return the hash of content, label and split of all images that were prepared, wherever they lie."""
    rows = columns.read()
    each = (rows.strings(name) for name in ("sha256", "split", "label"))
    lines = sorted(map("\t".join, zip(*each, strict=True)))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def phase(wanted: str) -> str:
    """Return the phase whose model is exported: of ``export.model``, where `verdict` is the one that evaluate says."""
    return str(records.read_json(paths.VERDICT)["ship"]) if wanted == "verdict" else wanted


def evaluated(phase: str) -> np.ndarray:
    """Return what `evaluate` said of the test images by a phase's model: (images, classes) float32 probabilities."""
    rows: np.ndarray = np.load(paths.probabilities(phase), allow_pickle=False)
    return rows


def temperature(phase: str) -> float:
    """Return what the logits of the phase's model are divided by: 1 where `evaluate` found no temperature."""
    if not paths.CALIBRATION.is_file():
        return 1.0
    found = records.read_json(paths.CALIBRATION)
    return float(found.get(phase, found).get("temperature", 1.0))  # of evaluate.calibration=false there is none


def calibrated(probabilities: np.ndarray, by: float) -> np.ndarray:
    """Return the probabilities of the logits divided by a temperature: (n, classes) float32."""
    if by == 1:
        return probabilities
    # Of a probability that float32 rounded to nothing, nothing comes back.
    logits = np.log(np.maximum(probabilities.astype(np.float64), np.finfo(np.float32).tiny)) / by
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    found: np.ndarray = (raised / raised.sum(axis=1, keepdims=True)).astype(np.float32)
    return found
