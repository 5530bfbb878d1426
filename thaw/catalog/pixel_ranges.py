"""The pixel contracts as plain arithmetic on arrays, for the reference and for the range check. No TensorFlow."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from thaw.catalog import pixel_contracts

MEAN, DEVIATION = np.array(pixel_contracts.MEAN), np.array(pixel_contracts.DEVIATION)
# Of the cube of all colours, where two ranges are furthest apart.
CORNERS = np.stack(np.meshgrid(*[[0, 255]] * 3), axis=-1).reshape(-1, 3)


@dataclass(frozen=True, eq=False)
class Range:
    """A pixel range, as a matrix and an offset: pixels times ``matrix`` plus ``offset`` is what the first convolution
    gets.
    """

    matrix: np.ndarray  # (3, 3), the network's channel by that of the pixels
    offset: np.ndarray  # (3,)

    def __call__(self, pixels: Any) -> np.ndarray:
        """Scale (..., 3) RGB in [0, 255] to (..., 3) float64."""
        scaled: np.ndarray = np.asarray(pixels, np.float64) @ self.matrix.T + self.offset
        return scaled

    def swapped(self) -> "Range":
        """Return the same with red and blue exchanged."""
        return Range(self.matrix[:, ::-1], self.offset)

    def back(self, values: Any) -> np.ndarray:
        """Return the pixels, not always in [0, 255], that this range makes the values of."""
        pixels: np.ndarray = (np.asarray(values, np.float64) - self.offset) @ np.linalg.inv(self.matrix).T
        return pixels

    def is_near(self, other: "Range", tolerance: float = 0.02) -> bool:
        """Return whether no pixel comes out further from the other range's than a share of the length of its range."""
        mine, theirs = self(CORNERS), other(CORNERS)
        return bool(np.abs(mine - theirs).max() <= tolerance * np.ptp(theirs, axis=0).min())


def _range(contract: pixel_contracts.Contract) -> Range:
    matrix = np.diag(np.broadcast_to(np.asarray(contract.scale, float), 3))
    offset = np.broadcast_to(np.asarray(contract.offset, float), 3)
    return Range(matrix[:, ::-1] if contract.bgr else matrix, offset)


RANGES = {name: _range(contract) for name, contract in pixel_contracts.CONTRACTS.items()}
