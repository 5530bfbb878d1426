"""A model as it is deployed: what a format is written from, and what one says of image files. No TensorFlow here."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from thaw.images import content, decoding
from thaw.images.integrity import Unusable

if TYPE_CHECKING:  # seconds, for TensorFlow, which who only asks for help need not wait
    from thaw.classifier import model
    from thaw.exports.unfamiliarity import Unfamiliarity
    from thaw.runtime.framework import keras

UNFAMILIARITY = "unfamiliarity"  # the output of files that have the score of images unlike the training images
ABOUT = "unfamiliar"  # the key of labels.json under which is the threshold that is 1 there
BATCH = 32  # files read and answered at once
UNSAID = decoding.Reading(stretch=False)  # how files are read for a model of an earlier version, which does not say it


class ForeignError(ValueError):
    """A model that may be whole, but was not exported by thaw."""


def unknown(path: Path, metadata: str) -> ForeignError:
    """Return the error for a file without the metadata by which it is known."""
    return ForeignError(f"{path}: expected metadata `{metadata}` in the file, found none; was it exported by thaw?")


@dataclass(frozen=True)
class Deployed:
    """The classifier and its settings, from which a format is written."""

    serving: "keras.Model"  # (batch, height, width, 3) uint8 RGB of any size → (batch, classes) float32 probabilities
    classifier: "model.Classifier"  # that it was made of
    reading: decoding.Reading  # how training read files
    about: Mapping[str, Any]  # the content of labels.json
    temperature: float = 1.0  # by which the logits are divided
    unfamiliarity: "Unfamiliarity | None" = None  # the score of images unlike the training images, where there is one
    # Pixels of training images, each (height, width, 3) uint8, by which int8 formats find their ranges.
    calibration: Callable[[], Iterator[np.ndarray]] = lambda: iter(())

    def unscored(self) -> "Deployed":
        """Return the same without the score of images unlike the training images."""
        about = {name: value for name, value in self.about.items() if name != ABOUT}
        return replace(self, unfamiliarity=None, about=about)

    def about_file(self, kind: str) -> dict[str, Any]:
        """Return what a file of the format ``kind`` says of itself."""
        return {**self.about, "format": kind}


class Answer(NamedTuple):
    """What a model says of an image."""

    probabilities: np.ndarray  # (classes,) float32
    label: str = ""  # the model's own; empty where it gives none
    unfamiliarity: float | None = None  # above 1: unlike the training images; None where the model has no such score


@dataclass(frozen=True)
class Exported:
    """A model as it was loaded from a format."""

    classes: list[str]
    say: Callable[[Sequence[bytes]], Sequence[Answer]]  # encoded images → an answer each
    reading: decoding.Reading = UNSAID  # as training read files
    about: Mapping[str, Any] = field(default_factory=dict)  # what the file says of itself; empty where it can't
    # Of formats that take pixels, which files are decoded for here: an encoded image → (height, width, 3) uint8, and
    # (batch, height, width, 3) uint8 → an answer each. Safe in several threads.
    decode: Callable[[bytes], np.ndarray] | None = None
    run: Callable[[np.ndarray], Sequence[Answer]] | None = None
    scores: bool = False  # whether it says how unlike the training images an image is

    def answer(self, files: Sequence[bytes]) -> np.ndarray:
        """Return the probabilities of encoded images: (n, classes) float32."""
        rows = [each.probabilities for each in self.say(files)]
        return np.stack(rows) if rows else np.zeros((0, len(self.classes)), np.float32)


def answered(
    probabilities: np.ndarray, labels: Sequence[str] = (), unfamiliarity: np.ndarray | None = None
) -> list[Answer]:
    """Return an answer an image, of what a model gives for a batch.

    Args:
        probabilities: (batch, classes) float32.
        labels: (batch,), or none.
        unfamiliarity: (batch,) float32, or none.
    """
    said = labels or [""] * len(probabilities)
    scores = [None] * len(probabilities) if unfamiliarity is None else list(map(float, unfamiliarity))
    return [Answer(*each) for each in zip(probabilities, said, scores, strict=True)]


@contextmanager
def unless_refused(kind: str, instead: str) -> Iterator[None]:
    """Say in one line what a layer raises that can't be written: its parts are unknown, or its state is not."""
    try:
        yield
    except OSError:  # of the disk, not of the network
        raise
    except Exception as error:  # of many classes, AssertionError among them
        raise ValueError(
            f"export.formats: expected a network that {kind} can hold, received one that it can't hold "
            f"({type(error).__name__}: {' '.join(str(error).split()):.200}); set export.formats=[{instead}]"
        ) from error


def answers(exported: Exported, files: Sequence[Path]) -> Iterator[tuple[Path, Answer | str]]:
    """The answer for each file, or what is wrong with it."""
    waiting = iter(files)
    while batch := list(islice(waiting, BATCH)):
        contents = [_read(path, exported.reading) for path in batch]
        try:
            rows: list[Any] = list(exported.say([data for data in contents if isinstance(data, bytes)]))
        # One of them is no image, which TensorFlow says with several classes of errors; or all are too many at once.
        except Exception:
            rows = [_alone(exported, data) for data in contents if isinstance(data, bytes)]
        good = iter(rows)
        for path, data in zip(batch, contents, strict=True):
            yield path, next(good) if isinstance(data, bytes) else data


def _read(path: Path, reading: decoding.Reading) -> bytes | str:
    """Return what the model is given for a file, which is what training was given; or what is wrong with the file."""
    try:
        return decoding.servable(content.read(path), reading.max_pixels, stretch=reading.stretch)
    except Unusable as refused:
        return f"can't be used: {refused.kind.replace('_', ' ')}, {refused.reason}"


def _alone(exported: Exported, data: bytes) -> Answer | str:
    try:
        return exported.say([data])[0]
    except Exception as error:  # see above
        if _is_memory(error):  # no fault of the image
            raise
        return "expected an image that can be decoded, received a damaged one"


def _is_memory(error: Exception) -> bool:
    """Return whether there is too little memory; by the class's name, so that TensorFlow need not be loaded."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    return bool(kinds & {"MemoryError", "ResourceExhaustedError"})
