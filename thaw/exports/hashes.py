"""The hashes of what was exported, and the refusal of what has another one, or is larger than any model."""

import shutil
from pathlib import Path

from thaw import paths, records

MAX_BYTES = 4 * 2**30  # of a file that is loaded; ONNX and LiteRT files have 2 GiB at most


def write(folder: Path) -> None:
    """Write hashes.json: the sha256 of each file and folder that lies beside it."""
    hashes = {path.name: digest(path) for path in sorted(folder.iterdir()) if path.name != paths.HASHES}
    records.write_json(folder / paths.HASHES, hashes)


def leave_whole(folder: Path) -> None:
    """Remove from a folder what hashes.json does not know, or knows by another hash: an unfinished run left it."""
    folder.mkdir(parents=True, exist_ok=True)
    recorded = folder / paths.HASHES
    try:
        known = records.read_json(recorded) if recorded.is_file() else {}
    except ValueError:
        known = {}
    for path in folder.iterdir():
        if path != recorded and known.get(path.name) != digest(path):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def digest(path: Path) -> str:
    """Return the hex sha256 of a file, or of a folder by what is in it."""
    return records.folder_sha256(path) if path.is_dir() else records.sha256(path)


def read(folder: Path) -> dict[str, str]:
    """Return the sha256 of each file and folder of an export, by name: what hashes.json says.

    Raises:
        ValueError: the file is damaged, or of something else.
    """
    remedy = "copy the whole folder again, or run `dvc repro --force export`"  # not: delete it, which ends the check
    path = folder / paths.HASHES
    try:
        known = records.read_json(path)
    except ValueError:
        raise ValueError(f"{path}: expected the hashes of an export, received a damaged file; {remedy}") from None
    if not all(isinstance(value, str) for value in known.values()):
        raise ValueError(f"{path}: expected the hashes of an export, received other values; {remedy}")
    return known


def check(path: Path) -> None:
    """Refuse a model that is too large, or not one whose hash was recorded beside it.

    A model that was copied without its hashes.json is loaded: nothing is known of it.

    Raises:
        ValueError: it is another one.
    """
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    total = sum(file.stat().st_size for file in files)
    if total > MAX_BYTES:
        raise ValueError(f"{path}: expected a model of at most {MAX_BYTES:,} bytes, received {total:,}")
    if not (path.parent / paths.HASHES).is_file():
        return
    known = read(path.parent)
    if path.name not in known:
        raise ValueError(
            f"{path}: expected one of what was exported here ({', '.join(known)}, by {paths.HASHES}), received a file "
            "that was not; move it to a folder of its own, or copy the whole folder again"
        )
    expected = known[path.name]
    if (received := digest(path)) != expected:
        raise ValueError(
            f"{path}: expected the model that was exported (sha256 {expected:.12}…, by {paths.HASHES}), received "
            f"another one ({received:.12}…); run `dvc repro --force export`, or copy the whole folder again"
        )
