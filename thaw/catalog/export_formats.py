"""The formats of ``export.formats``: what is known of each without writing one. No TensorFlow.

How one is written, loaded and asked is in ``thaw.exports.formats``.
"""

from dataclasses import dataclass

from thaw import paths


@dataclass(frozen=True)
class Format:
    """One format of deployment."""

    file: str  # the file's or folder's name in models/export
    title: str  # what people call one, with its article
    runtime: str  # what answers for it: of tensorflow, onnxruntime and litert
    any_layer: bool  # whether it holds layers that Keras can't write down, as that of a SavedModel
    # Whether it computes in float32, so that each probability must be the evaluated one within export.tolerance. The
    # others are judged by their answers: how many they share, and what that does to the accuracy.
    exact: bool = True
    # Whether it holds the score of images unlike the training images. Rounded to int8, embeddings move further than
    # that measures: on the digits one format called no test image unlike, the other twice as many as were.
    scores: bool = True


FORMATS = {
    "keras": Format(paths.KERAS_FILE, "a .keras file", "tensorflow", any_layer=False, scores=False),
    "saved_model": Format(paths.SAVED_MODEL, "a SavedModel", "tensorflow", any_layer=True),
    "onnx": Format(paths.ONNX_FILE, "an ONNX file", "onnxruntime", any_layer=True),
    "litert": Format(paths.LITERT_FILE, "a LiteRT file", "litert", any_layer=True),
    "litert_float16": Format(
        paths.LITERT_FLOAT16_FILE, "a LiteRT file of float16", "litert", any_layer=True, exact=False
    ),
    "litert_int8": Format(
        paths.LITERT_INT8_FILE, "a LiteRT file of int8", "litert", any_layer=True, exact=False, scores=False
    ),
    "onnx_int8": Format(
        paths.ONNX_INT8_FILE, "an ONNX file of int8", "onnxruntime", any_layer=True, exact=False, scores=False
    ),
}
