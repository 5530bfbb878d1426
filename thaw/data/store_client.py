"""The client of an object store: what lies at an address, and what is wrong with it in one line.

Credentials come from the environment, as the store's own client finds them, and no message holds any.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import fsspec

from thaw import pipes
from thaw.runtime import extras

# Seconds until a server counts as dead, and how often its client asks again.
PATIENCE = {"connect_timeout": 10, "read_timeout": 60, "retries": {"max_attempts": 2}}
TAGS = ("ETag", "etag", "LastModified", "last_modified", "mtime")


class RefusedError(ValueError):
    """What is wrong with an address or an object, said already."""


@dataclass(frozen=True)
class Stored:
    """An object as the store lists it."""

    key: str  # in the store
    path: str  # POSIX, relative to the address
    size: int  # bytes
    tag: str  # changes with the bytes: the ETag, or where the store has none the time, or all that it says of them


def listing(address: str) -> tuple[Any, list[Stored]]:
    """Return the client, and what lies at an address, sorted by path."""
    protocol, _, inside = address.partition("://")
    options = {"config_kwargs": PATIENCE} if protocol in {"s3", "s3a"} else {}
    try:
        store = fsspec.get_filesystem_class(protocol)(skip_instance_cache=True, **options)
    except (ImportError, ValueError) as error:
        command = extras.install_client(protocol)
        remedy = f"run `{command}`" if command else "copy the images to a folder"
        raise RefusedError(
            f"data.raw: expected an address whose client is installed, received {address} "
            f"({pipes.said_by(error)}); {remedy}"
        ) from None
    prefix = inside.strip("/")
    found = []
    for key, about in store.find(prefix, detail=True).items():
        path = key.removeprefix("/")[len(prefix) :].lstrip("/")
        if about["type"] == "directory" or not path:
            continue
        if any(part in {".", ".."} for part in path.rstrip("/").split("/")) or "//" in path or "\0" in path:
            raise RefusedError(f"data.raw: expected names that are paths, received {key!r} in {address}; rename it")
        tag = next((about[name] for name in TAGS if about.get(name)), sorted(map(str, about.items())))
        found.append(Stored(key, path, int(about["size"] or 0), str(tag).strip('"')))
    return store, sorted(found, key=lambda each: each.path)


@contextmanager
def told(address: str) -> Iterator[None]:
    """Turn what a store's client raises into one line, in which no value of the environment's secrets can be."""
    try:
        yield
    except RefusedError:
        raise
    except FileNotFoundError as error:
        raise ValueError(f"data.raw: expected images at {address}, found none ({pipes.said_by(error)})") from None
    except PermissionError as error:
        raise ValueError(
            f"data.raw: expected to be allowed to list and read {address}, was refused ({pipes.said_by(error)}); see "
            "which credentials are in the environment"
        ) from None
    except Exception as error:  # each client has kinds of its own
        remedy = "see that the store can be reached, then run the same again: what has arrived is kept"
        if "credential" in str(error).lower():
            remedy = "set them in the environment, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE"
        raise ValueError(f"data.raw: expected to read {address}, received {pipes.said_by(error)}; {remedy}") from None
