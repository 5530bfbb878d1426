"""The frozen layers and all that determines what they put out: cuts, weights, preprocessing, augmentation, engine."""

from collections.abc import Collection
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from thaw.config import schema
from thaw.features import cache, engines, gpu_extraction, stored
from thaw.runtime import code_version
from thaw.runtime.framework import keras

BATCH = 32  # images a step on a processor where compute.extract_batch_size is auto


@dataclass
class Frozen:
    """The frozen layers and all that determines what they put out."""

    model: keras.Model  # (batch, size, size, 3) float32 in [0, 255] → one output a cut
    cuts: list[str]  # the outputs' names
    weights_sha256: str  # of the pretrained weights
    image: schema.Image
    augment: schema.Augment
    compute: schema.Compute
    spare: Collection[str] = ()  # cuts that a later stage may ask for: computed in passing, if fp16 can hold them
    kind: str = stored.FLOAT16  # how activations that are no pooled features are stored

    def shapes(self) -> list[tuple[int, ...]]:
        """Return of an image's activations at each cut."""
        return [tuple(output.shape[1:]) for output in self.model.outputs]

    def row_bytes(self) -> list[int]:
        """Return the size of an image's activations at each cut in the cache, in bytes."""
        return [stored.size(stored.of(self.kind, shape), shape) for shape in self.shapes()]

    def cache_bytes(self, train: int, val: int) -> int:
        """Return what the cache needs for so many images of training and validation."""
        return sum(self.row_bytes()) * (train * self.views() + val)

    def batch_size(self) -> int:
        """Return the number of images a step through the layers."""
        size = self.compute.extract_batch_size
        return int(size) if size != "auto" else gpu_extraction.BATCH if engines.on_gpu() else BATCH

    def converted(self) -> Path:
        """Return where the ONNX graph of the layers is kept."""
        made_of = {
            "weights": self.weights_sha256,
            "cuts": self.cuts,
            "size": self.image.size,
            "versions": [version(package) for package in ("tensorflow", "keras", "tf2onnx")],
            "code": code_version.of("classifier", "features", "networks", "runtime/onnx_conversion.py"),
        }
        return cache.folder(self.compute.cache_dir) / "converted" / f"{cache.name(**made_of)}.onnx"

    def views(self) -> int:
        """Return the number of different views that the cache keeps of each training image."""
        return 1 if self.augment.is_clean else self.augment.views
