"""The manifest as columns of Arrow: a hundred bytes an image, where a dictionary a row takes a kilobyte.

Columns of few values are kept as numbers of these. They are read from the Parquet file that ``prepare`` writes with
the CSV file (``thaw.data.manifest_table``). Where the CSV file is another, edited by a person or written before there
was such a file, it is the CSV file that is read. The fingerprints, half of it, are left out.
"""

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, SupportsIndex, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import csv as arrow_csv
from pyarrow import parquet as pq

from thaw import paths, records

LEFT_OUT = ("fingerprint",)
OF = "sha256 of manifest.csv"  # what the Parquet file says of the CSV file that it was written with
PLAIN = ("path", "sha256")  # of which hardly two images have the same value
AT_ONCE = 4096  # rows that are made Python's at once
BLOCK = 16 << 20  # bytes that are parsed at once


class Strings(Sequence[str]):
    """A column of text, read like a list.

    Args:
        values: of type string.
        before, behind: what each begins and ends with besides.
    """

    def __init__(self, values: pa.Array, before: str = "", behind: str = "") -> None:
        self.values, self.before, self.behind = values, before, behind

    def __len__(self) -> int:
        return len(self.values)

    @overload
    def __getitem__(self, index: SupportsIndex) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> "Strings": ...
    def __getitem__(self, index: SupportsIndex | slice) -> "str | Strings":
        """Return one value, or some of them as a column."""
        if isinstance(index, slice):
            part = self.values.take(pa.array(range(*index.indices(len(self))), pa.int64()))
            return Strings(part, self.before, self.behind)
        return f"{self.before}{self.values[int(index)].as_py()}{self.behind}"

    def __iter__(self) -> Iterator[str]:
        for first in range(0, len(self), AT_ONCE):
            for value in self.values.slice(first, AT_ONCE).to_pylist():
                yield f"{self.before}{value}{self.behind}"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(list(self), dtype)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(a == b for a, b in zip(self, other))  # noqa: B905

    __hash__ = None  # type: ignore[assignment]  # as of a list

    def __repr__(self) -> str:
        return f"Strings({list(self[:3])}{' …' * (len(self) > 3)}, {len(self)} values)"


@dataclass(frozen=True, eq=False)
class Manifest(Sequence[Mapping[str, str]]):
    """The rows of the manifest, which may also be read one by one."""

    table: pa.Table  # columns of string, or of dictionaries of string

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @overload
    def __getitem__(self, index: int) -> Mapping[str, str]: ...
    @overload
    def __getitem__(self, index: slice) -> "Manifest": ...
    def __getitem__(self, index: int | slice) -> "Mapping[str, str] | Manifest":
        """Return one row, or some of them."""
        if isinstance(index, slice):
            return self.take(np.arange(*index.indices(len(self))))
        place = range(len(self))[index]
        return {name: self.table.column(name)[place].as_py() for name in self.table.column_names}

    def __iter__(self) -> Iterator[Mapping[str, str]]:
        for first in range(0, len(self), AT_ONCE):
            yield from self.table.slice(first, AT_ONCE).to_pylist()

    def take(self, places: NDArray[np.integer[Any]] | NDArray[np.bool_]) -> "Manifest":
        """Return some rows: (n,) places or (rows,) bool."""
        if places.dtype == np.bool_:
            places = np.flatnonzero(places)
        return Manifest(self.table.take(pa.array(places, pa.int64())).combine_chunks())

    def strings(self, name: str) -> Strings:
        """Return a column as text."""
        column = self.table.column(name)
        plain = column.cast(pa.large_string()) if pa.types.is_dictionary(column.type) else column
        return Strings(plain.combine_chunks() if plain.num_chunks != 1 else plain.chunk(0))

    def codes(self, name: str) -> tuple[NDArray[np.int32], list[str]]:
        """Return a column as numbers, (rows,), and the distinct values that they count."""
        column = self.table.column(name)
        if not pa.types.is_dictionary(column.type):
            column = column.dictionary_encode()
        whole = column.unify_dictionaries().combine_chunks()
        if isinstance(whole, pa.ChunkedArray):
            whole = whole.chunk(0) if whole.num_chunks else pa.array([], column.type)
        codes: NDArray[np.int32] = whole.indices.to_numpy(zero_copy_only=False).astype(np.int32)
        return codes, whole.dictionary.to_pylist()

    def numbers(self, name: str) -> NDArray[np.int64]:
        """Return a column of whole numbers, (rows,)."""
        codes, values = self.codes(name)
        return np.array([int(value) for value in values], np.int64)[codes]

    def are(self, name: str, value: str) -> NDArray[np.bool_]:
        """Return which rows have a value in a column, (rows,)."""
        codes, values = self.codes(name)
        return codes == values.index(value) if value in values else np.zeros(len(self), np.bool_)


@dataclass(frozen=True)
class ByPath(Mapping[str, str]):
    """What is wanted of the image of some path: nothing is kept besides the manifest, and each answer takes a search.

    Args:
        rows: the manifest.
        of: gives it, of a row; None where there is nothing.
    """

    rows: Manifest
    of: Callable[[Mapping[str, str]], str | None]

    def __getitem__(self, path: str) -> str:
        place = pc.index(self.rows.table.column("path"), path).as_py()
        found = self.of(self.rows[place]) if place >= 0 else None
        if found is None:
            raise KeyError(path)
        return found

    def __iter__(self) -> Iterator[str]:
        return (row["path"] for row in self.rows if self.of(row) is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def read() -> Manifest:
    """Return the manifest of the project in the current folder. It is read once while it stays the same.

    Raises:
        ValueError: it is none.
    """
    return _read(paths.MANIFEST.resolve(), records.sha256(paths.MANIFEST))


@lru_cache(maxsize=1)
def _read(path: Path, sha256: str) -> Manifest:
    by_column = path.with_name(paths.MANIFEST_COLUMNS.name)
    if by_column.is_file():
        try:
            with pq.ParquetFile(by_column, memory_map=True, page_checksum_verification=True) as file:
                if (file.schema_arrow.metadata or {}).get(OF.encode()) == sha256.encode():
                    return Manifest(_made(file.read()))
        except (pa.ArrowException, OSError) as error:
            told = f"{paths.MANIFEST_COLUMNS}: expected the manifest by column, received {error}"
            raise ValueError(f"{' '.join(told.split())}; run `dvc repro`") from None
    with path.open("rb") as file:
        return parsed(file)


def kind(name: str) -> pa.DataType:
    """Return how a column of text is kept."""
    return pa.large_string() if name in PLAIN else pa.dictionary(pa.int32(), pa.string())


def parsed(file: BinaryIO) -> Manifest:
    """Return the rows of a file that ``records.write_csv`` has written, without ``LEFT_OUT``.

    Raises:
        ValueError: it is none.
    """
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    kept = [name for name in next(csv.reader(text), []) if name not in LEFT_OUT]
    text.detach()
    file.seek(0)
    options = arrow_csv.ConvertOptions(
        column_types={name: kind(name) for name in kept},
        include_columns=kept,
        strings_can_be_null=False,
    )
    lines = arrow_csv.ParseOptions(newlines_in_values=True)
    try:
        table = arrow_csv.read_csv(file, arrow_csv.ReadOptions(block_size=BLOCK), lines, options)
    except (pa.ArrowInvalid, KeyError) as error:
        raise ValueError(f"{paths.MANIFEST}: expected the manifest, received {error}; run `dvc repro`") from None
    return Manifest(_made(pa.table({name: _plain(table.column(name)) for name in kept})))


def _made(table: pa.Table) -> pa.Table:
    """Return a table whose columns are text, each in one piece."""
    return pa.table({name: _words(table.column(name)) for name in table.column_names}).combine_chunks()


def _words(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column of text or of numbers of text in one count; of numbers in Python's words for them."""
    if pa.types.is_large_string(column.type):
        return column
    if pa.types.is_dictionary(column.type):
        return column.unify_dictionaries()
    whole = column.dictionary_encode().unify_dictionaries()
    texts = [
        pa.DictionaryArray.from_arrays(
            chunk.indices, pa.array(list(map(str, chunk.dictionary.to_pylist())), pa.string())
        )
        for chunk in whole.chunks
    ]
    return pa.chunked_array(texts, kind("width"))


def strings(texts: Sequence[str]) -> Strings:
    """Return a list of text as a column."""
    return Strings(pa.array(texts, pa.large_string()))


def of(rows: Sequence[Mapping[str, str]]) -> Manifest:
    """Return rows as columns; a manifest as it is."""
    return rows if isinstance(rows, Manifest) else Manifest(pa.Table.from_pylist([dict(row) for row in rows]))


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Take off the apostrophes that ``records`` writes before what a spreadsheet would run."""
    column = column.unify_dictionaries()
    chunks = []
    for chunk in column.chunks:
        values = chunk.dictionary if pa.types.is_dictionary(chunk.type) else chunk
        if pc.any(pc.starts_with(values, "'")).as_py():
            texts = [records.unguarded(text) for text in values.to_pylist()]
            plain = pa.array(texts, values.type)
            chunk = (  # noqa: PLW2901
                pa.DictionaryArray.from_arrays(chunk.indices, plain) if pa.types.is_dictionary(chunk.type) else plain
            )
        chunks.append(chunk)
    return pa.chunked_array(chunks, column.type)
