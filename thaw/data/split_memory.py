"""Remember where each image was put: ``data/splits.json``, a part of it for each seed and shares.

The file is in git, for the reason that ``thaw.data.stratified`` gives. With another seed or other shares all is
divided anew, and so it is without the file. Each such way has its part of it, in which images of any data set stay.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from thaw import paths, records
from thaw.config import schema
from thaw.data import text_columns

HEX = 16  # digits of a content: 64 bits
AT_ONCE = 4096  # contents written at once: memory, not results


@dataclass(frozen=True, eq=False)
class Remembered(Mapping[str, str]):
    """The split of each content, nine bytes each."""

    contents: NDArray[np.uint64]  # ascending
    splits: NDArray[np.int8]  # indices into ``paths.SPLITS``

    def __getitem__(self, content: str) -> str:
        value = np.uint64(int(content, HEX))
        place = int(np.searchsorted(self.contents, value))
        if len(content) != HEX or place == len(self.contents) or self.contents[place] != value:
            raise KeyError(content)
        return paths.SPLITS[self.splits[place]]

    def __iter__(self) -> Iterator[str]:
        return (f"{content:0{HEX}x}" for content in map(int, self.contents))

    def __len__(self) -> int:
        return len(self.contents)

    def of(self, contents: NDArray[np.uint64], unknown: int) -> NDArray[np.int8]:
        """Return the split of each content as an index into ``paths.SPLITS``, or ``unknown``: (n,)."""
        if not len(self):
            return np.full(len(contents), unknown, np.int8)
        places = np.minimum(np.searchsorted(self.contents, contents), len(self) - 1)
        return np.where(self.contents[places] == contents, self.splits[places], np.int8(unknown))


def numbers(contents: Sequence[str]) -> NDArray[np.uint64]:
    """Return the beginning of each content as a number, (n,)."""
    if isinstance(contents, text_columns.Hexes):
        found = np.empty(len(contents), np.uint64)
        for start, block in contents.blocks():
            found[start : start + len(block)] = np.ascontiguousarray(block[:, : HEX // 2]).view(">u8")[:, 0]
        return found
    return np.fromiter((int(content[:HEX], HEX) for content in contents), np.uint64, len(contents))


def among(known: Mapping[str, str], contents: Sequence[str]) -> Mapping[str, str]:
    """Return what is remembered of some contents."""
    if isinstance(known, Remembered):
        there = np.isin(known.contents, numbers(contents))
        return Remembered(known.contents[there], known.splits[there])
    return {content: known[content] for content in contents if content in known}


def made(contents: NDArray[np.uint64], splits: NDArray[np.int8]) -> Remembered:
    """Return what is to be remembered; of a content that is there more than once, the last holds."""
    once, last = np.unique(contents[::-1], return_index=True)
    return Remembered(once, splits[::-1][last])


def read(data: schema.Data) -> Remembered:
    """Return the split of each image in earlier runs, by the beginning of its sha256; empty if the settings were
    others.

    Raises:
        ValueError: the file was damaged.
    """
    try:
        found = [each["images"] for each in _parts() if each["drawn_with"] == _drawn_with(data)]
        of = [(numbers(_checked(own[split])), number) for own in found for number, split in _splits(own)]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{paths.MEMORY}: expected the splits of images as prepare wrote them, received other things ({error}); "
            "take it from git, or delete it to divide all images anew"
        ) from error
    nothing = np.empty(0, np.uint64)
    contents = np.concatenate([nothing, *(own for own, _ in of)])
    return made(contents, np.concatenate([np.full(len(own), number, np.int8) for own, number in [(nothing, 0), *of]]))


def _splits(images: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    return ((paths.SPLITS.index(split), split) for split in images)


def _checked(contents: Sequence[str]) -> Sequence[str]:
    if wrong := next((content for content in contents if len(content) != HEX), None):
        raise ValueError(f"{wrong!r} where {HEX} hexadecimal digits should be")
    return contents


def write(known: Remembered, data: schema.Data) -> None:
    """Write what is to be remembered with these settings; what was with others stays."""
    others = [part for part in _parts() if part["drawn_with"] != _drawn_with(data)]
    images = {split: known.contents[known.splits == number] for number, split in enumerate(paths.SPLITS)}
    lists: list[Any] = []

    def listed(value: Any) -> str:
        lists.append(value)
        return f"list {len(lists) - 1}"

    record = {"drawn_with": _drawn_with(data), "images": images} | ({"others": others} if others else {})
    text = json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False, default=listed)
    with records.replaced(paths.MEMORY) as part, part.open("w", encoding="utf-8", newline="") as file:
        for place, piece in enumerate(re.split(r'"list (\d+)"', text)):
            if place % 2:
                _write_list(file, lists[int(piece)])
            else:
                file.write(piece)
        file.write("\n")


def _write_list(file: TextIO, contents: NDArray[np.uint64]) -> None:
    """Write contents as ``records.write_json`` does a list of texts in a list's list, some at a time."""
    file.write("[")
    for first in range(0, len(contents), AT_ONCE):
        some = contents[first : first + AT_ONCE].tolist()
        file.write("," * bool(first) + ",".join(f'\n      "{content:0{HEX}x}"' for content in some))
    file.write("\n    ]" if len(contents) else "]")


def _parts() -> list[dict[str, Any]]:
    """Return all that is remembered, what was used last before the others: one for each way to divide."""
    if not paths.MEMORY.exists():
        return []
    record = records.read_json(paths.MEMORY)
    return [{key: record[key] for key in ("drawn_with", "images")}, *record.get("others", [])]


def _drawn_with(data: schema.Data) -> dict[str, float]:
    return {"seed": data.seed, "val": data.val, "test": data.test}
