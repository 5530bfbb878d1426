"""Images in an object store: ``data.raw`` as ``s3://bucket/prefix``, or another address that fsspec can list.

They are read through a local copy, so that all that comes after is as for a local folder. The store is listed each
time; only what is new or has changed is downloaded. Files are kept by content under ``.thaw/remote/content``, once for
all addresses, and linked under their names in a folder for each address. What is there is written down as it
comes, so a download that was interrupted goes on.

Credentials come from the environment, as the store's own client finds them. No address may hold any.
"""

import hashlib
import os
import re
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
from filelock import FileLock

from thaw import console, paths, pipes
from thaw.runtime import extras

THREADS = 16  # downloads at a time: each waits for the network
AT_ONCE = 256  # downloads between two notes of what is there
CHUNK = 1 << 20  # bytes
# Seconds until a server counts as dead, and how often its client asks again.
PATIENCE = {"connect_timeout": 10, "read_timeout": 60, "retries": {"max_attempts": 2}}
TAGS = ("ETag", "etag", "LastModified", "last_modified", "mtime")
CONTENT = "content"  # the folder, beside those of the addresses
MD5 = re.compile(r"[0-9a-f]{32}")


class _RefusedError(ValueError):
    """What is wrong with an address or an object, said already."""


@dataclass(frozen=True)
class Stored:
    """An object as the store lists it."""

    key: str  # in the store
    path: str  # POSIX, relative to the address
    size: int  # bytes
    tag: str  # changes with the bytes: the ETag, or where the store has none the time, or all that it says of them


def fetch(address: str) -> Path:
    """Bring the local copy of an address up to date.

    Args:
        address: of a folder, or of a table, whose whole folder comes.

    Returns:
        The folder, or the table in it: ``paths.local``.

    Raises:
        ValueError: the store can't be reached or listed, or an object did not arrive; one line, without credentials.
    """
    place, target = paths.local(address), paths.images_root(address)
    above = address.rpartition("/")[0] if target != place else address
    with _told(address):
        store, listed = _listing(above)
    if not listed:
        raise ValueError(f"data.raw: expected images at {above}, found nothing there; put them there or set data.raw")
    target.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"), closing(_index(target)) as index:
        for part in target.parent.glob(f"{target.name}.*.part"):  # of a run that was killed
            part.unlink(missing_ok=True)
        new, has_less = _missing(index, target, listed)
        if new:
            size = sum(each.size for each in new)
            console.say(f"{above}: {len(new):,} of {len(listed):,} files are downloaded, {size / 1e6:,.1f} MB")
        for first in range(0, len(new), AT_ONCE):
            with _told(address):
                _download(index, store, target, new[first : first + AT_ONCE])
        if new or has_less:
            _remove_unused(target.parent / CONTENT)
    return place


def _listing(address: str) -> tuple[Any, list[Stored]]:
    """Return the client, and what lies at an address, sorted by path."""
    protocol, _, inside = address.partition("://")
    options = {"config_kwargs": PATIENCE} if protocol in {"s3", "s3a"} else {}
    try:
        store = fsspec.get_filesystem_class(protocol)(skip_instance_cache=True, **options)
    except (ImportError, ValueError) as error:
        command = extras.install_client(protocol)
        remedy = f"run `{command}`" if command else "copy the images to a folder"
        raise _RefusedError(
            f"data.raw: expected an address whose client is installed, received {address} ({_plain(error)}); {remedy}"
        ) from None
    prefix = inside.strip("/")
    found = []
    for key, about in store.find(prefix, detail=True).items():
        path = key.removeprefix("/")[len(prefix) :].lstrip("/")
        if about["type"] == "directory" or not path:
            continue
        if any(part in {".", ".."} for part in path.rstrip("/").split("/")) or "//" in path or "\0" in path:
            raise _RefusedError(f"data.raw: expected names that are paths, received {key!r} in {address}; rename it")
        tag = next((about[name] for name in TAGS if about.get(name)), sorted(map(str, about.items())))
        found.append(Stored(key, path, int(about["size"] or 0), str(tag).strip('"')))
    return store, sorted(found, key=lambda each: each.path)


def _index(target: Path) -> sqlite3.Connection:
    """Open the list of what was downloaded, beside the folder: path, size, tag and sha256 of each."""
    index = sqlite3.connect(target.with_name(f"{target.name}.sqlite"))
    index.execute("CREATE TABLE IF NOT EXISTS objects (path TEXT PRIMARY KEY, size INTEGER, tag TEXT, sha256 TEXT)")
    return index


def _missing(index: sqlite3.Connection, target: Path, listed: Sequence[Stored]) -> tuple[list[Stored], bool]:
    """Make folders and remove what the store no longer has.

    Returns:
        What is to be downloaded, and whether something was removed.
    """
    files = [each for each in listed if not each.path.endswith("/")]
    known = {path: (size, tag) for path, size, tag in index.execute("SELECT path, size, tag FROM objects")}
    gone = known.keys() - {each.path for each in files}
    index.executemany("DELETE FROM objects WHERE path = ?", [(path,) for path in gone])
    index.commit()
    has_less = _remove_others(target, {each.path for each in files})
    for each in listed:
        if each.path.endswith("/"):  # how consoles of stores make a folder, which may be a class without images
            (target / each.path).mkdir(parents=True, exist_ok=True)
    new = [
        each
        for each in files
        if known.get(each.path) != (each.size, each.tag) or _size(target / each.path) != each.size
    ]
    return new, has_less


def _remove_others(target: Path, files: Collection[str]) -> bool:
    """Remove what is not in the store, noted or not, and folders that are empty then: they would count as classes.

    Returns whether there were such files.
    """
    found = False
    for folder, _, names in os.walk(target, topdown=False):
        for name in names:
            path = Path(folder, name)
            if path.relative_to(target).as_posix() not in files:
                path.unlink()
                found = True
        if folder != str(target):
            with suppress(OSError):  # something is in it
                Path(folder).rmdir()
    return found


def _remove_unused(content: Path) -> None:
    """Remove bytes that no name means any more, of whatever address."""
    for path in content.glob("*/*"):
        with suppress(FileNotFoundError):  # another process does the same
            if path.stat().st_nlink == 1:
                path.unlink()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _download(index: sqlite3.Connection, store: Any, target: Path, some: Sequence[Stored]) -> None:
    """Download some objects in threads; what has arrived is noted, also where another fails."""
    pool = ThreadPoolExecutor(THREADS, "downloading")
    waiting = {pool.submit(_one, store, target, each): each for each in some}
    try:
        for future in as_completed(waiting):
            each, sha256 = waiting[future], future.result()
            index.execute(
                "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?)", (each.path, each.size, each.tag, sha256)
            )
    finally:
        pool.shutdown(cancel_futures=True)
        index.commit()


def _one(store: Any, target: Path, each: Stored) -> str:
    """Download an object, link it under its name, and return the sha256 of its bytes."""
    part = target.with_name(f"{target.name}.{hashlib.sha256(each.path.encode()).hexdigest()}.part")
    try:
        sha256, md5, size = _copied(store, each, part)
        is_whole = size == each.size and (
            not MD5.fullmatch(each.tag) or md5 == each.tag or _is_still(store, each, sha256, part)
        )
        if not is_whole:
            raise _RefusedError(
                f"data.raw: expected {each.size:,} bytes of {each.key} as they were listed, received {size:,} others; "
                "it has changed or was damaged on its way, run the same again"
            )
        _settle(part, target.parent / CONTENT / sha256[:2] / sha256, target / each.path)
    finally:
        part.unlink(missing_ok=True)
    return sha256


def _copied(store: Any, each: Stored, part: Path) -> tuple[str, str, int]:
    """Write the bytes of an object to a file; their sha256, MD5 and number."""
    sha256, md5, size = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
    with store.open(each.key, "rb", cache_type="none") as source, part.open("wb") as opened:
        while data := source.read(CHUNK):
            sha256.update(data)
            md5.update(data)
            size += opened.write(data)
    return sha256.hexdigest(), md5.hexdigest(), size


def _is_still(store: Any, each: Stored, sha256: str, part: Path) -> bool:
    """Return whether a tag that is not the bytes' MD5 is right all the same, as where a store encrypts with keys.

    Then the object has that tag still, and the same bytes come again.
    """
    tag = str(store.info(each.key, refresh=True).get("ETag", "")).strip('"')
    return tag == each.tag and _copied(store, each, part)[0] == sha256


def _settle(part: Path, content: Path, path: Path) -> None:
    """Let a name mean what was downloaded. The same bytes under another name are one file, on a disk with hard links.

    At no moment is a content there without a name, for which another process would remove it.
    """
    for place in (content, path):
        place.parent.mkdir(parents=True, exist_ok=True)
    beside = part.with_name(f"{part.stem}.link.part")
    beside.unlink(missing_ok=True)
    try:
        if (held := _size(content)) != _size(part):
            if held >= 0:  # damaged; one that has come meanwhile is not
                content.unlink(missing_ok=True)
            with suppress(FileExistsError):  # under another name it has come just now
                os.link(part, content)
        os.link(content, beside)
    except FileNotFoundError:  # its last other name has just gone, and it too
        os.link(part, beside)
    except OSError:  # no hard links
        beside = part
    path.unlink(missing_ok=True)  # if it is the same file, replacing it would do nothing at all
    beside.replace(path)


@contextmanager
def _told(address: str) -> Iterator[None]:
    """Turn what a store's client raises into one line, in which no value of the environment's secrets can be."""
    try:
        yield
    except _RefusedError:
        raise
    except FileNotFoundError as error:
        raise ValueError(f"data.raw: expected images at {address}, found none ({_plain(error)})") from None
    except PermissionError as error:
        raise ValueError(
            f"data.raw: expected to be allowed to list and read {address}, was refused ({_plain(error)}); see which "
            "credentials are in the environment"
        ) from None
    except Exception as error:  # each client has kinds of its own
        remedy = "see that the store can be reached, then run the same again: what has arrived is kept"
        if "credential" in str(error).lower():
            remedy = "set them in the environment, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE"
        raise ValueError(f"data.raw: expected to read {address}, received {_plain(error)}; {remedy}") from None


def _plain(error: Exception) -> str:
    """Return an error in one line, without anything that the environment keeps secret."""
    return pipes.without_secrets(" ".join(f"{type(error).__name__}: {error}".split()))[:300]
