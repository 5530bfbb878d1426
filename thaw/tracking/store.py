"""Open MLflow's database where it is a file of SQLite: made whole by one process, and recognised where it is not
whole.

MLflow makes a new database in some ninety steps, which take seconds. A process that ends between two of them leaves
tables that MLflow can neither use nor complete, and so do two processes that take the steps at once, from two
projects too. So the lock lies beside the database, and a new one is made under another name and takes its place whole.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from thaw import paths

SQLITE = "sqlite:///"
REMOTE = ("http:", "https:", "databricks")
LOCK_SECONDS = 120  # the first process makes the database in about ten
# What SQLite says where MLflow takes a step twice, and of a file that is damaged or none of its own.
NOT_WHOLE = ("already exists", "duplicate column name", "malformed", "not a database")


def file(uri: str) -> Path | None:
    """Return the file of a tracking URI, None where it names none of SQLite."""
    name = uri.removeprefix(SQLITE).partition("?")[0]
    return Path(name) if uri.startswith(SQLITE) and name else None


@contextmanager
def opened_alone(uri: str, make: Callable[[str], object]) -> Iterator[None]:
    """Hold the lock of a database while it is opened. A server sees to this itself.

    Args:
        uri: of the database.
        make: opens the database of a URI, which makes its tables. It is called if there is none yet.

    Raises:
        ValueError: the database is not whole; one line.
    """
    if uri.startswith(REMOTE):
        yield
        return
    path = file(uri)
    with FileLock(_lock(path), timeout=LOCK_SECONDS):
        if path and not (path.exists() and path.stat().st_size):
            _make_whole(path, make)
        try:
            yield
        except Exception as error:  # of SQLAlchemy, which nothing here imports
            if path and any(words in str(error) for words in NOT_WHOLE):
                raise ValueError(
                    f"expected a whole database of MLflow, received {path}, which was left half made or is damaged "
                    f"({str(error).splitlines()[0]:.200}); move it away, as with `mv {path} {path}.broken`, and the "
                    "next stage makes a new one"
                ) from error
            raise


def _lock(path: Path | None) -> Path:
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.with_name(f"{path.name}.lock")
    scratch = paths.main_root() / ".dvc" / "tmp"
    return (scratch if scratch.is_dir() else paths.main_root()) / "mlflow.db.lock"


def _make_whole(path: Path, make: Callable[[str], object]) -> None:
    # One name, since only the holder of the lock is here: what an earlier one has left half made is removed.
    part = path.with_name(f"{path.name}.part")
    for left in (part, part.with_name(f"{part.name}-journal")):
        left.unlink(missing_ok=True)
    make(f"{SQLITE}{part.as_posix()}")
    part.replace(path)
