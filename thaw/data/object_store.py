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
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from thaw import console, paths
from thaw.data import store_client
from thaw.data.store_client import Stored

THREADS = 16  # downloads at a time: each waits for the network
AT_ONCE = 256  # downloads between two notes of what is there
CHUNK = 1 << 20  # bytes
CONTENT = "content"  # the folder, beside those of the addresses
MD5 = re.compile(r"[0-9a-f]{32}")


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
    with store_client.told(address):
        store, listed = store_client.listing(above)
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
            with store_client.told(address):
                _download(index, store, target, new[first : first + AT_ONCE])
        if new or has_less:
            _remove_unused(target.parent / CONTENT)
    return place


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
            raise store_client.RefusedError(
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
