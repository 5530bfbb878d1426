"""An exported model asked from Python, about paths, the bytes of files, PIL images and arrays alike."""

import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image, ImageOps

from thaw import paths
from thaw.exports import exported
from thaw.images import bit_depth, cmyk, content, decoding
from thaw.images.integrity import Unusable
from thaw.serving import opened

PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA")  # of Pillow, which a PNG holds as they are

Picture: TypeAlias = "str | Path | bytes | Image.Image | np.ndarray"


class Predictor:
    """An exported model. It reads images as training did, and needs TensorFlow only for formats that do.

    Examples:
        >>> import thaw
        >>> model = thaw.load("flowers-thaw")
        >>> model.predict_proba(["new.png", Path("new.png").read_bytes()]).shape
        (2, 2)
        >>> model.predict(np.full((2, 32, 32, 3), (40, 200, 40), np.uint8)).tolist()
        ['green', 'green']
    """

    def __init__(self, model: exported.Exported) -> None:
        self._model = model

    @property
    def labels(self) -> list[str]:
        """The classes, in the order of the columns of ``predict_proba``."""
        return list(self._model.classes)

    def predict(self, images: "Picture | Iterable[Picture]") -> np.ndarray:
        """Return the likeliest class of each image: (n,) text.

        Args:
            images: one or more: paths, the bytes of files, PIL images, or uint8 arrays of (height, width) or (height,
                width, 3); an array of (n, height, width, 3) is n images.

        Raises:
            ValueError: one can't be used; its place and the reason.
        """
        found: np.ndarray = np.array(self.labels)[self.predict_proba(images).argmax(axis=1)]
        return found

    def predict_proba(self, images: "Picture | Iterable[Picture]") -> np.ndarray:
        """Return the probabilities for each image: (n, classes) float32; ``images`` and errors as in ``predict``."""
        rows: list[np.ndarray] = []
        batch: list[bytes] = []
        for place, image in enumerate(_each(images)):
            batch.append(self._encoded(place, image))
            if len(batch) == exported.BATCH:
                rows.append(self._model.answer(batch))
                batch = []
        rows += [self._model.answer(batch)] if batch else []
        return np.concatenate(rows) if rows else np.zeros((0, len(self.labels)), np.float32)

    def _encoded(self, place: int, image: Picture) -> bytes:
        """Return the bytes of a file for an image, judged as ``prepare`` judges a file."""
        reading = self._model.reading
        try:
            data = content.read(paths.whole(image)) if isinstance(image, str | Path) else _file(image, reading.stretch)
            return decoding.servable(data, reading.max_pixels, stretch=reading.stretch)
        except (Unusable, ValueError) as refused:
            reason = refused.reason if isinstance(refused, Unusable) else str(refused)
            named = f" ({image})" if isinstance(image, str | Path) else ""
            raise ValueError(f"image {place}{named}: {reason}") from None


def _each(images: "Picture | Iterable[Picture]") -> Iterator[Picture]:
    """Yield the images of what may be one or several."""
    alone = isinstance(images, str | Path | bytes | Image.Image)
    if alone or (isinstance(images, np.ndarray) and images.ndim in (2, 3) and images.dtype != object):
        yield images  # type: ignore[misc]
    elif isinstance(images, Iterable):
        yield from images  # type: ignore[misc]
    else:
        raise ValueError(
            "images: expected a path, the bytes of a file, a PIL image, an array, or several of these, received "
            f"{type(images).__name__}"
        )


def _file(image: "bytes | Image.Image | np.ndarray", stretch: bool = True) -> bytes:
    """Return an image as the bytes of a file, without loss."""
    if isinstance(image, bytes):
        return image
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (3, 4)):
            raise ValueError(
                f"expected uint8 of (height, width), (height, width, 3) or 4, received {image.dtype} of {image.shape}"
            )
        image = Image.fromarray(image)
    if not isinstance(image, Image.Image):
        raise ValueError(f"expected a path, bytes, a PIL image or an array, received {type(image).__name__}")
    if found := opened.file(image, stretch):
        return found
    if bit_depth.is_negative(image):  # which a PNG cannot be
        image = bit_depth.upper(image, bit_depth.in_use(image, b"") if stretch else 16)
    held = io.BytesIO()
    _storable(image).save(held, "PNG", compress_level=1)
    return held.getvalue()


def _storable(image: Image.Image) -> Image.Image:
    """Return an opened image upright, as its file is read, in a mode that a PNG can hold."""
    if image.mode == "CMYK" and image.format in cmyk.JPEGS:
        upright = ImageOps.exif_transpose(image)
        upright.info.update(image.info)  # where it says whose CMYK it is
        return cmyk.rgb(upright)
    upright = ImageOps.exif_transpose(image)
    if upright.mode == "F":
        raise ValueError("expected 8 or 16 bits a channel, received an image of mode F, which has no range; scale it")
    if upright.mode in PNG_MODES or upright.mode.startswith("I;16"):
        return upright
    if upright.mode == "I":
        return upright.convert("I;16")
    return upright.convert("RGBA" if upright.mode.endswith(("a", "A")) else "RGB")
