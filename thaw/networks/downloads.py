"""Downloads of pretrained weights: Keras's files, pinned by their hash.

Keras fetches its ImageNet weights while it builds a network, and for some networks it checks no hash at all. Here
nothing is fetched without one: it is Keras's own, the table's, or the user's ``backbone.sha256``. Like all weights
what is loaded goes into the records with its sha256, which is the hash to pin the next time.
"""

import hashlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thaw import records
from thaw.runtime.framework import keras


@dataclass(frozen=True)
class Download:
    """A file of weights that Keras would fetch."""

    name: str  # of the file
    url: str
    pinned: str  # hash that it must have, hex of md5 or sha256; empty: none is known
    pinned_by: str = "Keras"

    def path(self) -> Path:
        """Return where Keras keeps it, and looks for it first."""
        config: Any = sys.modules["keras.src.backend.config"]  # has no public name
        return Path(config.keras_home()) / "models" / self.name


class _AskedError(Exception):
    """Carries what a network asked for out of Keras's code."""


def wanted(build: Callable[[], Any]) -> Download:
    """Return which file Keras would fetch.

    Args:
        build: makes one of ``keras.applications``' networks with ``weights="imagenet"``. It does not come to its end.
    """
    files: Any = sys.modules["keras.src.utils.file_utils"]  # has no public name

    def ask(fname: str, origin: str, file_hash: str | None = None, **_options: Any) -> None:
        raise _AskedError(Download(fname, origin, file_hash or ""))

    kept, files.get_file = files.get_file, ask
    try:
        build()
    except _AskedError as asked:
        found: Download = asked.args[0]
        return found
    finally:
        files.get_file = kept
    raise RuntimeError("expected that the network asks for its weights, received a network; please report this")


def obtain(download: Download, sha256: str) -> Path:
    """Return the file on this machine, fetched if it is not there.

    Args:
        sha256: that it must have, hex; empty: that of no file is known.

    Raises:
        ValueError: another file is there, none can be fetched, or none may be since it could not be checked.
    """
    path = download.path()
    if not path.is_file():
        if not (sha256 or download.pinned):
            raise ValueError(
                f"backbone.sha256: expected the sha256 that {download.name} is to have, since none is pinned for it, "
                f"received none, so it is not fetched; fetch {download.url}, check that it is the file you want, and "
                f"set backbone.sha256=… to what `sha256sum {download.name}` says; on a machine without internet fetch "
                f"it elsewhere and {_place(download)}"
            )
        try:
            keras.utils.get_file(download.name, download.url, cache_subdir="models")
        except Exception as error:  # Keras's downloader raises a plain Exception
            raise ValueError(
                f"backbone.weights=imagenet: expected to download {download.name}, received: "
                f"{' '.join(str(error).split())}; {_by_hand(download)}"
            ) from error
    received = _hash(path, "sha256" if len(download.pinned) == 64 else "md5")
    if download.pinned and received != download.pinned:
        raise ValueError(
            f"{path}: expected the hash {download.pinned}, which {download.pinned_by} pins, received {received}; "
            f"delete the file and {_by_hand(download)}"
        )
    check(path, sha256)
    return path


def check(path: Path, sha256: str) -> None:
    """Require a hash of a file.

    Args:
        sha256: hex; empty: any will do.

    Raises:
        ValueError: it has another.
    """
    received = records.sha256(path) if sha256 else ""
    if received != sha256:
        raise ValueError(
            f"backbone.sha256: expected {path} to have the sha256 {sha256}, received {received}; get the file again, "
            "or correct the setting if this is the file that is meant"
        )


def _by_hand(download: Download) -> str:
    return f"on a machine without internet fetch {download.url} elsewhere and {_place(download)}"


def _place(download: Download) -> str:
    return f"put it here as {download.path()}, or give its place with backbone.weights"


def _hash(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
