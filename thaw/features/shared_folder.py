"""A folder that several machines share: on a network disk, in an object store, or wherever fsspec reaches.

A file in it is there as a whole or not at all.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from thaw import pipes, records
from thaw.runtime import extras

# Seconds until a server counts as dead, and how often its client asks again.
PATIENCE = {"connect_timeout": 10, "read_timeout": 60, "retries": {"max_attempts": 3}}
TIMES = ("LastModified", "last_modified", "updated", "mtime", "created")  # as clients call the time of an object


@dataclass
class Folder:
    """A folder; paths are relative to it."""

    client: Any  # fsspec's
    root: str

    def names(self, path: str) -> list[str]:
        """Return the names of the files in a folder; none where there is no folder."""
        self.client.invalidate_cache()
        try:
            return sorted(each.rpartition("/")[2] for each in self.client.ls(f"{self.root}/{path}", detail=False))
        except FileNotFoundError:
            return []

    def sizes(self) -> dict[str, tuple[int, float]]:
        """Return the bytes of each file, and when it was written in seconds; 0 where its client doesn't say."""
        self.client.invalidate_cache()
        found = {}
        for path, about in self.client.find(self.root, detail=True).items():
            when = next((about[name] for name in TIMES if about.get(name)), 0.0)
            seconds = when.timestamp() if isinstance(when, datetime) else float(when)
            found[path[len(self.root) :].lstrip("/")] = int(about["size"] or 0), seconds
        return found

    def read(self, path: str) -> bytes:
        """Return a file's bytes."""
        content: bytes = self.client.cat_file(f"{self.root}/{path}")
        return content

    def open(self, path: str) -> Any:
        """Open a file for reading, from which each read fetches what it asks for."""
        return self.client.open(f"{self.root}/{path}", "rb", cache_type="none")

    def write(self, path: str, content: bytes) -> None:
        """Write a file."""
        with self.writing(path) as file:
            file.write(content)

    @contextmanager
    def writing(self, path: str) -> Iterator[IO[bytes]]:
        """Open a file for writing, which is there when the block has ended well."""
        whole = f"{self.root}/{path}"
        if isinstance(self.client, LocalFileSystem):
            with records.replaced(Path(whole)) as part, part.open("wb") as opened:
                yield opened
            return
        file = self.client.open(whole, "wb")
        try:
            yield file
        except BaseException:
            file.discard()
            raise
        file.close()

    def remove(self, path: str) -> None:
        """Remove a file, or a folder with all that is in it; another process may have done so already."""
        try:
            self.client.rm(f"{self.root}/{path}", recursive=True)
        except FileNotFoundError:
            return


def at(address: str) -> Folder:
    """Return the folder of an address, ``compute.shared_cache``.

    Raises:
        ValueError: its client is not installed, or it can't be reached; one line, without credentials.
    """
    protocol = address.partition("://")[0] if "://" in address else "file"
    options: dict[str, Any] = {"config_kwargs": PATIENCE} if protocol == "s3" else {}
    try:
        client, root = fsspec.core.url_to_fs(address, skip_instance_cache=True, **options)
        if isinstance(client, LocalFileSystem):
            client.makedirs(root, exist_ok=True)
        elif not client.exists(root):  # a folder may come yet, its bucket must be there
            client.ls(root.partition("/")[0])
    except (ImportError, ValueError) as error:
        command = extras.install_client(protocol)
        remedy = f"run `{command}`" if command else "give a folder or s3://…"
        raise _refused(address, error, remedy) from None
    except Exception as error:  # each client has kinds of its own
        remedy = "see that it can be reached, and that the environment has credentials; or leave it empty"
        raise _refused(address, error, remedy) from None
    return Folder(client, root.rstrip("/"))


def _refused(address: str, error: Exception, remedy: str) -> ValueError:
    return ValueError(
        f"compute.shared_cache: expected a folder that can be written, received {address} "
        f"({pipes.said_by(error)}); {remedy}"
    )
