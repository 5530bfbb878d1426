"""Ask an exported model for many files: in order, on all cores, and with no more in memory than is at work."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from thaw.exports import exported
from thaw.exports.exported import Answer, Exported
from thaw.images import content, decoding, header
from thaw.images.integrity import Unusable
from thaw.runtime import threads

Task = TypeVar("Task")
Result = TypeVar("Result")

AHEAD = 4  # tasks waiting or done for each thread: enough that none is idle while a slow one is waited for


def answer(model: Exported, data: bytes, max_pixels: int | None = None) -> np.ndarray:
    """Return the probabilities of one encoded image, (classes,) float32; arguments and errors as of ``say``."""
    return say(model, data, max_pixels).probabilities


def say(model: Exported, data: bytes, max_pixels: int | None = None) -> Answer:
    """Return what a model says of one encoded image.

    Args:
        data: the file's bytes.
        max_pixels: width × height above which nothing is decoded; None: as in training.

    Raises:
        Unusable: training would not have used it either, it can't be decoded, or it is too large.
    """
    if model.run:
        return model.run(decoded(model, data, max_pixels)[None])[0]
    _check_size(model, data, max_pixels)
    given = decoding.servable(data, model.reading.max_pixels, stretch=model.reading.stretch)
    try:
        return model.say([given])[0]
    except (Unusable, MemoryError):
        raise
    except Exception as error:  # TensorFlow says with several classes of errors that it can't decode an image
        raise Unusable("damaged", "it can't be decoded") from error


def decoded(model: Exported, data: bytes, max_pixels: int | None = None) -> np.ndarray:
    """Return the pixels of one encoded image for a model that takes pixels: (height, width, 3) uint8.

    Raises:
        Unusable: as ``say`` does.
    """
    _check_size(model, data, max_pixels)
    if model.decode is None:
        raise ValueError("expected a model that takes pixels, received one that takes files; ask it with `answer`")
    return model.decode(data)


def _check_size(model: Exported, data: bytes, max_pixels: int | None) -> None:
    if max_pixels is None or max_pixels >= model.reading.max_pixels:
        return
    with suppress(OSError, ValueError, SyntaxError), Image.open(BytesIO(data)) as image:  # what is none is said later
        width, height = image.size
        if width * height > max_pixels:
            raise Unusable("too_large", header.beyond(width, height, max_pixels))


def told(classes: Sequence[str], answer: Answer, top: int | None) -> dict[str, Any]:
    """Return an answer under names, as JSON has it.

    Args:
        classes: their names.
        answer: what the model says of an image.
        top: the likeliest classes, these first; None: all in their order.
    """
    row = answer.probabilities
    order = np.argsort(-row, kind="stable")
    listed = range(len(classes)) if top is None else order[:top]
    found = {
        "label": classes[order[0]],
        "probability": float(row[order[0]]),
        "probabilities": {classes[index]: float(row[index]) for index in listed},
    }
    if answer.unfamiliarity is None:
        return found
    return found | {"unfamiliarity": answer.unfamiliarity, "unfamiliar": answer.unfamiliarity > 1}


def of_files(model: Exported, files: Sequence[Path], given: Mapping[Path, bytes]) -> Iterator[Answer | str]:
    """Yield for each file the answer, or what is wrong with it.

    Args:
        given: the bytes of those that are not read from the disk.
    """
    if model.run is None and not given:  # it computes in batches, and on all cores by itself
        yield from (row for _, row in exported.answers(model, files))
        return

    def of_one(path: Path) -> Answer | str:
        try:
            return say(model, given[path] if path in given else content.read(path))
        except Unusable as refused:
            return f"can't be used: {refused.kind.replace('_', ' ')}, {refused.reason}"

    yield from in_order(of_one, files, workers(model))


def workers(model: Exported) -> int:
    """Return how many threads may ask a model at once: one a core, but one where it takes all cores by itself."""
    return threads.cores() if model.run else 1


def in_order(work: Callable[[Task], Result], tasks: Iterable[Task], at_once: int) -> Iterator[Result]:
    """Yield what comes of each task, in their order; so many are at work at once, and few are ahead of the caller."""
    with ThreadPoolExecutor(at_once) as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for task in tasks:
                waiting.append(pool.submit(work, task))
                if len(waiting) == AHEAD * at_once:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
