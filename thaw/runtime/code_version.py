"""Hashes of code: of the syntax tree without comments and docstrings, so that prose makes no result stale."""

import ast
import hashlib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

LIBRARY = Path(__file__).resolve().parents[1]  # the folder thaw/


def of(*names: str) -> str:
    """Return the hash of packages or modules of the library, such as ``images`` or ``records.py``."""
    return of_files(LIBRARY, (LIBRARY / name for name in names))


def of_files(root: Path, parts: Iterable[Path]) -> str:
    """Return the hash of files, and of all files of code and templates in folders.

    Args:
        root: what the files' names are taken relative to.
        parts: files and folders in ``root``.

    Returns:
        64 hex digits. A comment, a docstring or a blank line changes nothing in them.

    Raises:
        FileNotFoundError: one of the parts is not there.
    """
    total = hashlib.sha256()
    for path in sorted({path for part in parts for path in _files(part)}):
        content = path.read_bytes()
        digest = of_source(content) if path.suffix == ".py" else hashlib.sha256(content).hexdigest()
        total.update(f"{path.relative_to(root).as_posix()} {digest}\n".encode())
    return total.hexdigest()


@lru_cache(maxsize=512)
def of_source(content: bytes) -> str:
    """Return the hash of one module's syntax tree. Code that does not parse has the hash of its bytes."""
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha256(repr(_shape(tree)).encode()).hexdigest()


def _files(part: Path) -> list[Path]:
    if part.is_dir():
        return [path for path in part.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    if not part.exists():
        raise FileNotFoundError(f"expected code at {part}, found none")
    return [part]


def _shape(node: object) -> object:
    """Return plain values: no positions, no docstrings, no empty fields, which Python's versions do not share."""
    if isinstance(node, ast.AST):
        fields = [
            (name, _shape(value))
            for name, value in ast.iter_fields(node)
            if name not in ("kind", "type_ignores") and (value not in (None, []) or isinstance(node, ast.Constant))
        ]
        return type(node).__name__, fields
    if isinstance(node, list):
        return [_shape(each) for each in node if not _is_prose(each)]
    return node


def _is_prose(node: object) -> bool:
    """Return whether a statement is a bare text: a docstring, which does nothing."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
