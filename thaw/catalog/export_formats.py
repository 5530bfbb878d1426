"""The formats of ``export.formats``: what is known of each without writing one. No TensorFlow.

How one is written, loaded and asked is in ``thaw.exports.formats``.
"""

from dataclasses import dataclass

from thaw import paths


@dataclass(frozen=True)
class Format:
    """One format of deployment."""

    file: str  # the file's or folder's name in models/export
    any_layer: bool  # whether it holds layers that Keras can't write down, as that of a SavedModel
    tolerance: float = 1.0  # of probabilities, in multiples of export.tolerance: 1 where it computes in float32


FORMATS = {
    "keras": Format(paths.KERAS_FILE, any_layer=False),
    "saved_model": Format(paths.SAVED_MODEL, any_layer=True),
}
