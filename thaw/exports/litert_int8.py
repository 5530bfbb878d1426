"""The format ``litert_int8``: the network of a LiteRT file in int8, its ranges found on training images.

Weights have a scale a channel, activations one a tensor. What fits the pixels stays float32, and so do input, output
and softmax, so that the file is asked as the others are.
"""

from pathlib import Path

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
        images = [{graph.IMAGES: pixels[None]} for pixels in deployed.calibration()]
        ranges = quantizer.calibrate({"serving_default": images}, num_threads=1)
        return bytes(quantizer.quantize(ranges).quantized_model)
