"""Tables of the pixel ranges in which networks were pretrained, as plain arithmetic.

Pixels are in [0, 255] everywhere in this program; a backbone's first layers bring them into its range. What those
should compute is written down here a second time, for the reference and for the canary. No TensorFlow.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

# Of ImageNet's training images, on a scale of 0 to 1, red green blue.
MEAN = np.array([0.485, 0.456, 0.406])
DEVIATION = np.array([0.229, 0.224, 0.225])
# The same mean in the first release of VGG's weights, on a scale of 0 to 255, blue green red.
CAFFE_MEAN = np.array([103.939, 116.779, 123.68])
# Of the cube of all colours, where two ranges are furthest apart.
CORNERS = np.stack(np.meshgrid(*[[0, 255]] * 3), axis=-1).reshape(-1, 3)


@dataclass(frozen=True, eq=False)
class Range:
    """A pixel range, as a matrix and an offset: pixels times ``matrix`` plus ``offset`` is what the first convolution
    gets.
    """

    words: str
    matrix: np.ndarray  # (3, 3), the network's channel by that of the pixels
    offset: np.ndarray  # (3,)

    def __call__(self, pixels: Any) -> np.ndarray:
        """Scale (..., 3) RGB in [0, 255] to (..., 3) float64."""
        scaled: np.ndarray = np.asarray(pixels, np.float64) @ self.matrix.T + self.offset
        return scaled

    def swapped(self) -> "Range":
        """Return the same range with red and blue exchanged."""
        return Range(f"{self.words}, red and blue exchanged", self.matrix[:, ::-1], self.offset)

    def back(self, values: Any) -> np.ndarray:
        """Return the pixels, not always in [0, 255], that this range makes the values of."""
        pixels: np.ndarray = (np.asarray(values, np.float64) - self.offset) @ np.linalg.inv(self.matrix).T
        return pixels

    def is_near(self, other: "Range", tolerance: float = 0.02) -> bool:
        """Return whether no pixel comes out further from the other range's than a share of the length of its range."""
        mine, theirs = self(CORNERS), other(CORNERS)
        return bool(np.abs(mine - theirs).max() <= tolerance * np.ptp(theirs, axis=0).min())


def _plain(words: str, scale: Any, offset: Any) -> Range:
    return Range(
        words, np.diag(np.broadcast_to(np.asarray(scale, float), 3)), np.broadcast_to(offset, 3).astype(float)
    )


# By the words that a backbone's contract has.
RANGES = {
    "0..255": _plain("0 to 255", 1, 0),
    "0..1": _plain("0 to 1", 1 / 255, 0),
    "-1..1": _plain("-1 to 1", 1 / 127.5, -1),
    "-1..0.99": _plain("pixel / 128 - 1", 1 / 128, -1),
    "lite": _plain("(pixel - 127) / 128", 1 / 128, -127 / 128),
    "imagenet": _plain("ImageNet's mean 0 and deviation 1", 1 / (255 * DEVIATION), -MEAN / DEVIATION),
    "caffe": Range("0 to 255 less ImageNet's mean, BGR", np.eye(3)[::-1], -CAFFE_MEAN),
}
