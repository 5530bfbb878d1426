"""What DVC keeps of experiments, read by its own API: in whichever cache or remote its configuration names."""

from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any


def read(revision: str, path: Path) -> bytes | None:
    """Return a file that the stages of a commit have made; None if neither DVC's cache nor the default remote has it.

    Args:
        revision: the commit's hash.
        path: of the file in the project.
    """
    made = _file_system(Path.cwd(), revision)
    with suppress(FileNotFoundError):  # a folder's listing is in the cache, and the file is not
        if made.exists(path.as_posix()):
            found: bytes = made.cat_file(path.as_posix())
            return found
    return None


def is_cached(md5: str) -> bool:
    """Return whether DVC's cache has a file or the listing of a folder, by the hash in dvc.lock."""
    return bool(_cache(Path.cwd()).exists(md5))


@lru_cache(maxsize=1)  # several files of one experiment are read, then those of the next
def _file_system(project: Path, revision: str) -> Any:
    from dvc.api import DVCFileSystem  # noqa: PLC0415 -- half a second, which most that a sweep does need not wait for

    return DVCFileSystem(project, rev=revision)


@lru_cache(maxsize=1)
def _cache(project: Path) -> Any:
    from dvc.repo import Repo  # noqa: PLC0415 -- as above

    return Repo(project).cache.local
