"""The score of images unlike the training images, inside exported models: fitted by `evaluate`, 1 at its threshold.

The Mahalanobis distance of ``thaw.evaluation.out_of_distribution``, as operations that every format has, divided by
the distance above which `evaluate` calls an image unlike the training images. So whoever asks a model needs no
threshold: above 1 is unlike. No TensorFlow before it is put into a graph.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thaw import console, paths, records
from thaw.evaluation import out_of_distribution

if TYPE_CHECKING:
    from thaw.runtime.framework import tf

# How far a format may be from what was evaluated, as a share of the score, or of the threshold where that is more: one
# that computes in float32, and one with weights of float16; besides what ``Unfamiliarity.rounding`` says.
TOLERANCE, TOLERANCE_OF_ROUNDED = 0.01, 0.05
MOST_ROUNDING = 0.05  # of which on the score measures the rounding of embeddings rather than images
STEP = 2.0**-11  # of float16: what rounding may change of a number, as a share


@dataclass(frozen=True)
class Unfamiliarity:
    """What the score is computed from."""

    parameters: out_of_distribution.Parameters
    threshold: float  # the distance that is 1
    share: float  # of validation images that have more

    def about(self) -> dict[str, float]:
        """Return what labels.json says of it."""
        return {"threshold": self.threshold, "share": self.share}

    @property
    def rounding(self) -> float:
        """The share of a score of 1 that is there because embeddings are evaluated in float16, as an estimate.

        An exported model does not round them. Where the images of a class are nearly one image, that can be told.
        """
        channels, kept = self.parameters["means"].shape[1], len(self.parameters["axes"])
        along = float(self.parameters["precision"].astype(np.float64).sum())
        inverse = along + (channels - kept) * float(self.parameters["rest"])
        return math.hypot(1, STEP * math.sqrt(inverse / channels) / self.threshold) - 1

    def score(self, embeddings: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Return the scores of embeddings, as evaluated: (images, channels) → (images,), above 1 where unlike."""
        return (out_of_distribution.score(embeddings, self.parameters) / np.float32(self.threshold)).astype(np.float32)


def read(phase: str) -> Unfamiliarity | None:
    """Return what `evaluate` fitted for a phase's model.

    None with ``evaluate.unfamiliar=0``; where all validation images have one score, so that none is a measure; and
    where the images of a class are so much alike that the score is one of rounded numbers, which is said.
    """
    if not paths.UNFAMILIAR.is_file():
        return None
    found = records.read_json(paths.CALIBRATION)[phase]["unfamiliar"]
    if not found["threshold"] > 0:
        return None
    fitted = Unfamiliarity(out_of_distribution.load(paths.UNFAMILIAR, phase), found["threshold"], found["share"])
    if fitted.rounding > MOST_ROUNDING:
        console.warn(
            "the images of a class are so much alike that rounding makes much of the score of unlike images; the "
            "exported model is written without it"
        )
        return None
    return fitted


def tested(phase: str, fitted: Unfamiliarity) -> NDArray[np.float32]:
    """Return the scores of all test images, as `evaluate` found them: (images,) float32, above 1 where unlike."""
    kept = out_of_distribution.load_scores(paths.UNFAMILIAR, phase)
    return (kept / np.float32(fitted.threshold)).astype(np.float32)


def scores(embeddings: "tf.Tensor", fitted: Unfamiliarity) -> "tf.Tensor":
    """Compute the scores in a graph: (batch, channels) float32 → (batch,) float32, above 1 where unlike.

    The axes' part and the rest are kept apart, and the difference to the nearest mean is taken before it is squared.
    So nothing large is subtracted from something large, which float32 would not bear.
    """
    from thaw.runtime.framework import tf  # noqa: PLC0415 -- seconds

    axes, scale, middle, means = (tf.constant(each) for each in _weights(fitted.parameters))
    squared = tf.reduce_sum(embeddings * embeddings, axis=1, keepdims=True)
    unit = embeddings * tf.math.rsqrt(tf.maximum(squared, out_of_distribution.SMALLEST))
    placed = _placed(unit - middle, axes, scale, tf)
    distances = tf.reduce_sum(means * means, axis=1) - 2.0 * tf.matmul(placed, means, transpose_b=True)
    apart = placed - tf.gather(means, tf.argmin(distances, axis=1, output_type=tf.int32))
    return tf.sqrt(tf.reduce_sum(apart * apart, axis=1)) / fitted.threshold


def _placed(centred: Any, axes: Any, scale: Any, library: Any) -> Any:
    """Return where embeddings lie along the axes and beside them, in units of the spread: (n, kept + channels)."""
    # The embeddings are transposed and not the axes, which would be in the file twice.
    across = library.matmul(axes, library.transpose(centred))  # (kept, n)
    along = library.transpose(across)
    if centred.shape[0] == 1 and library is not np:
        # As LiteRT asks: it holds the right side of a product transposed, which would be the axes a second time.
        return library.concat([along, centred - library.reduce_sum(across * axes, 0, keepdims=True)], 1) * scale
    return library.concat([along, centred - library.matmul(along, axes)], 1) * scale


def _weights(parameters: out_of_distribution.Parameters) -> list[NDArray[np.float32]]:
    """Return the axes (kept, channels), the scales (kept + channels,), the middle of the means, and the means."""
    axes, means = parameters["axes"].astype(np.float64), parameters["means"].astype(np.float64)
    middle = means.mean(axis=0)
    beside = np.full(len(middle), np.sqrt(float(parameters["rest"])))
    scale = np.concatenate([np.sqrt(parameters["precision"].astype(np.float64)), beside])
    return [each.astype(np.float32) for each in (axes, scale, middle, _placed(means - middle, axes, scale, np))]


def compared(
    way: str,
    expected: NDArray[np.float32],
    received: NDArray[np.float32] | None,
    tolerance: float,
    names: Sequence[str],
) -> dict[str, float]:
    """Return how far an exported model's scores are from those that were evaluated.

    Args:
        way: how it was asked.
        expected, received: (images,) float32; None: it gave none.
        tolerance: as a share of the score, or of the threshold where that is more.
        names: of the images.

    Raises:
        ValueError: they are further.
    """
    if received is None or received.shape != expected.shape:
        raise ValueError(f"the exported model ({way}): expected a score of unlike images for each, received none")
    apart = np.nan_to_num(np.abs(received - expected) / np.maximum(expected, 1), nan=np.inf)
    at = int(apart.argmax())
    if not apart[at] <= tolerance:
        raise ValueError(
            f"the exported model ({way}): expected the evaluated scores of unlike images within {tolerance:.0%}, "
            f"received {received[at]:.3g} instead of {expected[at]:.3g} for {names[at]}; leave the format out of "
            "export.formats, or set evaluate.unfamiliar=0"
        )
    return {"unfamiliarity_difference": float(apart[at])}
