"""Read image files ahead of whoever decodes them, in threads, each checked to be the one that was prepared.

A file is read and hashed without Python's lock, so a few threads feed all cores' decoders. TensorFlow is handed many
files at once: a call from its graph into Python for each image would make the cores wait for one another.
"""

import os
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing

from thaw.images import content, integrity
from thaw.runtime import threads
from thaw.runtime.framework import tf

THREADS = 4  # that read; each can hash a gigabyte a second, and disks answer several at once
AT_ONCE = 32  # files a call at most
BYTES = 16 * 2**20  # of them at most, but for a single file that is larger

Files = list[tuple[bytes, int]]  # of each its bytes, none where there was no path, and its EXIF orientation, 1 to 8
Read = tuple[Files, ValueError | None]  # what was read, and what is wrong with the file after it


def ahead(paths: Sequence[str], hashes: Sequence[str]) -> Generator[Files]:
    """Yield the files in their order, some at a time, while the next are being read; all before one that is wrong.

    Args:
        paths: of the files; empty for none.
        hashes: hex sha256 of each, as the manifest has it.

    Raises:
        ValueError: a file has gone or holds other bytes than when it was prepared.
    """
    workers = min(THREADS, threads.used())
    waiting: deque[Future[Read]] = deque()
    with ThreadPoolExecutor(workers, "reading") as pool:
        try:
            for part in _parts(paths):
                waiting.append(pool.submit(_read, paths[part], hashes[part]))
                if len(waiting) > workers:
                    yield from _whole(waiting.popleft().result())
            while waiting:
                yield from _whole(waiting.popleft().result())
        finally:  # who stops half-way waits for what is being read, not for what would have been
            for future in waiting:
                future.cancel()


def batches(paths: Sequence[str], hashes: Sequence[str], size: int) -> Generator[tuple[tf.Tensor, tf.Tensor]]:
    """Yield the files some at a time, of which the last may be fewer, while ``ahead`` reads the next.

    Yields:
        (size,) string, the bytes, and (size,) int32, the EXIF orientations.
    """
    waiting: Files = []
    with closing(ahead(paths, hashes)) as parts:
        for part in parts:
            waiting += part
            while len(waiting) >= size:
                yield _tensors(waiting[:size])
                del waiting[:size]
    if waiting:
        yield _tensors(waiting)


def tensors(paths: Sequence[str], hashes: Sequence[str]) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the same of all files at once: (n,) string and (n,) int32."""
    return _tensors([file for part in ahead(paths, hashes) for file in part])


def _tensors(files: Files) -> tuple[tf.Tensor, tf.Tensor]:
    return tf.constant([data for data, _ in files], tf.string), tf.constant([turned for _, turned in files], tf.int32)


def _parts(paths: Sequence[str]) -> Iterator[slice]:
    """Yield what is read by one call, so that no more than so many bytes are held."""
    first, size = 0, 0
    for place, path in enumerate(paths):
        size += _size(path)
        if place > first and (place - first == AT_ONCE or size > BYTES):
            yield slice(first, place)
            first, size = place, _size(path)
    if paths:
        yield slice(first, len(paths))


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size if path else 0  # noqa: PTH116 -- a Path takes longer to make than the answer
    except OSError:  # who reads it says so
        return 0


def _read(paths: Sequence[str], hashes: Sequence[str]) -> Read:
    files: Files = []
    for path, sha256 in zip(paths, hashes, strict=True):
        try:
            data = content.prepared(path, sha256) if path else b""
        except ValueError as error:
            return files, error
        files.append((data, integrity.orientation(data) if data.startswith(b"\xff\xd8\xff") else 1))
    return files, None


def _whole(read: Read) -> Iterator[Files]:
    files, error = read
    if files:
        yield files
    if error:
        raise error
