"""The format ``onnx``: one file for ONNX Runtime, in any language, that takes batches of pixels of any size.

No TensorFlow before one is written, and none to load one.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from thaw import paths, records
from thaw.exports import pixels, quiet
from thaw.exports.exported import UNFAMILIARITY, Answer, Deployed, Exported, ForeignError, answered, unknown

METADATA = "thaw"  # the key of metadata_props under which is, as JSON, what the file is to be known by
CLASSES = f"metadata of {paths.ONNX_FILE}"  # the place where it names its classes
# Of a tensor whose numbers lie in another file, by its path: the key "location", before the path or behind it. What
# `export` writes has it nowhere else, since inputs of operations are numbered there.
_ELSEWHERE = b"\x0a\x08location"


def write(path: Path, deployed: Deployed) -> None:
    """Convert the graph, and write it under canonical names with its metadata."""
    from thaw.exports import onnx_graph  # noqa: PLC0415 -- loaded only where it converts

    records.write_bytes(path, onnx_graph.content(converted(deployed), deployed.about_file("onnx")))


def converted(deployed: Deployed) -> Any:
    """Return the deployed graph in float32, as it is converted: an ``onnx.ModelProto`` without labels and metadata.

    Raises:
        onnx.checker.ValidationError: ONNX lacks an operation of the network.
    """
    from thaw.exports import graph  # noqa: PLC0415 -- seconds, for TensorFlow
    from thaw.runtime import onnx_conversion  # noqa: PLC0415
    from thaw.runtime.framework import numbered_from_the_start  # noqa: PLC0415

    with quiet.python(), numbered_from_the_start():
        import onnx  # noqa: PLC0415 -- loaded only where it converts

        answer, spec, _ = graph.function(deployed)
        model = onnx_conversion.converted(answer, spec)
        onnx.checker.check_model(model)  # an operation that ONNX lacks is left as it is, and only logged
        return model


def is_one(path: Path) -> bool:
    """Return whether a path of any name is such a file."""
    return path.is_file() and path.suffix == Path(paths.ONNX_FILE).suffix


def load(path: Path) -> Exported:
    """Load a file that ``write`` wrote.

    Raises:
        ForeignError: it was written by another program.
        ValueError: it would read other files.
    """
    content = path.read_bytes()
    if _ELSEWHERE in content:
        raise ForeignError(f"{path}: expected all weights in the file, received one that names other files for them")
    session = _session(content)
    wanted = ["probabilities", "label"]
    wanted += [UNFAMILIARITY] if UNFAMILIARITY in {each.name for each in session.get_outputs()} else []
    about = session.get_modelmeta().custom_metadata_map.get(METADATA)
    if about is None:
        raise unknown(path, METADATA)

    def run(images: np.ndarray) -> list[Answer]:
        probabilities, labels, *score = session.run(wanted, {"images": images})
        return answered(probabilities, [str(label) for label in labels], *score)

    return pixels.exported(json.loads(about), run)


def untold() -> None:
    """Tell ONNX Runtime, which is not imported yet, to report nothing to its makers."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def _session(content: bytes) -> Any:
    untold()
    import onnxruntime  # noqa: PLC0415 -- loaded only where it runs

    options = onnxruntime.SessionOptions()
    # Each core takes images of its own. Cores that share each layer wait for one another.
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
