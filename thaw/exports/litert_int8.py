"""The format ``litert_int8``: the network of a LiteRT file in int8, its ranges found on training images.

Weights have a scale a channel, activations one a tensor. What fits the pixels stays float32, and so do input, output
and softmax, so that the file is asked as the others are.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from thaw import paths, records
from thaw.exports import flatbuffer, litert_file, quiet
from thaw.exports.exported import Deployed

CLASSES = f"metadata of {paths.LITERT_INT8_FILE}"  # the place where it names its classes
BITS = 8
FLOAT = "no_quantize"  # the quantiser's name of leaving an operation as it is


def write(path: Path, deployed: Deployed) -> None:
    """Convert the graph, quantise the network in it, and write it with its metadata."""
    content = _quantized(litert_file.graph(deployed), deployed)
    records.write_bytes(path, flatbuffer.finished(content, deployed.about_file("litert_int8")))


def _quantized(content: bytes, deployed: Deployed) -> bytes:
    from thaw.exports import graph  # noqa: PLC0415 -- seconds, for TensorFlow

    with quiet.python():
        from ai_edge_quantizer.qtyping import TFLOperationName  # noqa: PLC0415 -- loaded only where it quantises
        from ai_edge_quantizer.quantizer import Quantizer  # noqa: PLC0415

        quantizer = Quantizer(bytearray(content))
        quantizer.add_static_config(".*", TFLOperationName.ALL_SUPPORTED, BITS, BITS)
        ends = (TFLOperationName.INPUT, TFLOperationName.OUTPUT, TFLOperationName.SOFTMAX)
        for operation in ends:
            quantizer.update_quantization_recipe(".*", operation, algorithm_key=FLOAT)
        resize = f".*{graph.RESIZE}.*"
        quantizer.update_quantization_recipe(resize, TFLOperationName.ALL_SUPPORTED, algorithm_key=FLOAT)
        ranges = _ranges(content, quantizer.get_quantization_recipe(), deployed.calibration())
        return bytes(quantizer.quantize(ranges).quantized_model)


def _ranges(content: bytes, recipe: Any, images: Iterable[np.ndarray]) -> Any:
    """Return the least and the largest value of each tensor over all images, one image in memory at a time.

    ``Quantizer.calibrate`` would give a moving average instead, in which an image counts 1/20 and the first of n
    0.95 ** (n - 1): values above the usual image's largest are cut off, and of few images the first one's ranges stay.
    """
    from ai_edge_quantizer.calibrator import Calibrator  # noqa: PLC0415 -- loaded only where it quantises
    from ai_edge_quantizer.recipe_manager import RecipeManager  # noqa: PLC0415
    from ai_edge_quantizer.utils import qsv_utils  # noqa: PLC0415

    from thaw.exports import graph  # noqa: PLC0415 -- seconds, for TensorFlow

    rules = RecipeManager()
    rules.load_quantization_recipe(recipe)
    calibrator = Calibrator(content, num_threads=1, qsv_update_func=qsv_utils.min_max_update)
    for pixels in images:
        calibrator.calibrate({"serving_default": [{graph.IMAGES: pixels[None]}]}, rules)
    return calibrator.get_model_qsvs()
