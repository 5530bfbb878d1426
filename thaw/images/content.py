"""Read the bytes of an image file once, and check that they are those that were prepared."""

import hashlib
import io
import os
import stat
from pathlib import Path

from thaw.images.integrity import Unusable

# A file is held in memory while it is judged; nothing that large is a photograph.
MAX_BYTES = 512 * 2**20


def read(path: Path) -> bytes:
    """Return the bytes of a file that may be an image.

    Raises:
        Unusable: it is none, or it cannot be read.
    """
    if status(path).st_size > MAX_BYTES:
        raise Unusable("too_large", f"larger than {MAX_BYTES // 2**20} MiB")
    try:
        data = path.read_bytes()
    except (OSError, RuntimeError) as error:
        raise Unusable("unreadable", unreadable(error)) from None
    if not data:
        raise Unusable("empty", "an empty file")
    return data


def status(path: Path) -> os.stat_result:
    """Return what the file system says of a file.

    Raises:
        Unusable: it is none, or cannot be looked at.
    """
    try:
        found = path.stat()
    except (OSError, RuntimeError) as error:
        raise Unusable("unreadable", unreadable(error)) from None
    if not stat.S_ISREG(found.st_mode):
        raise Unusable("unreadable", "not a file")
    return found


def prepared(path: str, sha256: str) -> bytes:
    """Return the bytes of an image that the manifest names; whoever decodes one for training or a test calls this.

    Args:
        path: of the file.
        sha256: hex digest of the bytes that `prepare` saw.

    Raises:
        ValueError: it has gone, or holds other bytes now.
    """
    try:
        with io.FileIO(path) as file:  # a third of what Path.read_bytes() takes, where files are small
            data = file.readall()
    except OSError as error:
        raise changed(path, unreadable(error)) from None
    if hashlib.sha256(data).hexdigest() != sha256:
        raise changed(path, "it holds other bytes")
    return data


def changed(path: str, how: str) -> ValueError:
    """Return the error for an image that is not what it was when it was prepared."""
    return ValueError(
        f"{path}: expected the image that was prepared, but {how}; run `dvc repro`, which looks again "
        "(`dvc repro --force prepare` where data.raw is a table)"
    )


def unreadable(error: Exception) -> str:
    """Return the reason, without the path that Python would add, which differs from machine to machine."""
    if isinstance(error, PermissionError):
        return "no permission to read it"
    return f"cannot be read: {getattr(error, 'strerror', None) or error}"
