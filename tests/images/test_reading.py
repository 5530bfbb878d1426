import hashlib
import io
import re
from pathlib import Path

import pytest
from PIL import Image

from thaw.images import content, reading

WHOLE = (b"\0\0\0", b"a\0", bytes(range(256)) + b"\0", b"")


def turned(orientation: int) -> bytes:
    exif, file = Image.Exif(), io.BytesIO()
    exif[274] = orientation
    Image.new("RGB", (9, 5)).save(file, "JPEG", exif=exif)
    return file.getvalue()


@pytest.fixture
def files(tmp_path: Path) -> tuple[list[str], list[str], list[bytes]]:
    """Paths, hashes and bytes of more files than one call reads."""
    contents = [*WHOLE, turned(6), turned(1), *(str(number).encode() * 50 for number in range(2 * reading.AT_ONCE))]
    paths = [tmp_path / f"ü{number}\r.bin" for number in range(len(contents))]
    for path, data in zip(paths, contents, strict=True):
        path.write_bytes(data)
    return [str(path) for path in paths], [hashlib.sha256(data).hexdigest() for data in contents], contents


def test_bytes_come_whole_and_in_order(files: tuple[list[str], list[str], list[bytes]]) -> None:
    paths, hashes, contents = files
    parts = list(reading.ahead(paths, hashes))
    assert [data for part in parts for data, _ in part] == contents
    assert max(len(part) for part in parts) == reading.AT_ONCE
    together = reading.tensors(paths, hashes)
    assert list(together[0].numpy()) == contents
    assert together[1].numpy().tolist() == [1] * 4 + [6] + [1] * (len(contents) - 5)


@pytest.mark.parametrize("size", [1, 7, 100])
def test_batches_are_all_of_one_size_but_the_last(files: tuple[list[str], list[str], list[bytes]], size: int) -> None:
    paths, hashes, contents = files
    batches = list(reading.batches(paths, hashes, size))
    sizes = [len(encoded) for encoded, _ in batches]
    assert sizes[:-1] == [size] * (len(sizes) - 1) and 0 < sizes[-1] <= size
    assert [data for encoded, _ in batches for data in encoded.numpy()] == contents
    assert [number for _, turned in batches for number in turned.numpy()] == reading.tensors(paths, hashes)[
        1
    ].numpy().tolist()


def test_what_was_read_before_a_file_that_is_wrong_is_not_lost(
    files: tuple[list[str], list[str], list[bytes]],
) -> None:
    paths, hashes, contents = files
    Path(paths[-1]).unlink()
    seen: list[bytes] = []
    with pytest.raises(ValueError, match="cannot be read"):
        seen.extend(data for encoded, _ in reading.batches(paths, hashes, 10) for data in encoded.numpy())
    assert seen == contents[: (len(contents) - 1) // 10 * 10]


def test_no_path_is_no_bytes(files: tuple[list[str], list[str], list[bytes]]) -> None:
    paths, hashes, contents = files
    assert list(reading.ahead([paths[2], ""], [hashes[2], ""])) == [[(contents[2], 1), (b"", 1)]]
    assert list(reading.ahead([], [])) == []
    assert reading.tensors([], [])[0].shape == (0,)


def test_few_files_are_held_at_once_however_large_they_are(
    files: tuple[list[str], list[str], list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, hashes, contents = files
    read: list[str] = []
    prepared = content.prepared

    def noted(path: str, sha256: str) -> bytes:
        read.append(path)
        return prepared(path, sha256)

    monkeypatch.setattr(content, "prepared", noted)
    monkeypatch.setattr(reading, "BYTES", 300)
    parts = reading.ahead(paths, hashes)
    first = next(parts)
    assert len(read) < len(paths) / 2
    parts.close()
    rest = len(read)
    assert sum(len(data) for data, _ in first) <= 300 and rest < len(paths) / 2
    sizes = [[len(data) for data, _ in part] for part in reading.ahead(paths, hashes)]
    assert all(sum(part) <= 300 or len(part) == 1 for part in sizes)
    assert [size for part in sizes for size in part] == [len(data) for data in contents]


def test_a_file_that_has_changed_or_gone_is_named(files: tuple[list[str], list[str], list[bytes]]) -> None:
    paths, hashes, contents = files
    last = Path(paths[-1])
    last.write_bytes(b"another")
    seen: list[bytes] = []
    with pytest.raises(ValueError, match=re.escape(paths[-1]) + r": expected the image .* it holds other bytes"):
        seen.extend(data for part in reading.ahead(paths, hashes) for data, _ in part)
    assert seen == contents[:-1]
    last.unlink()
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        reading.tensors(paths, hashes)
