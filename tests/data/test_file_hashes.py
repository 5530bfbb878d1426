import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
import yaml
from PIL import Image

from thaw import records
from thaw.config import load
from thaw.data import file_hashes, validation
from thaw.data.file_hashes import FileHashes
from thaw.images import content

ROOT = Path(__file__).parents[2]
DATA = load.check(yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))).data
Found = TypeVar("Found")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)


def read_by(path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, int]:
    """The hash that a new process is told, and how many files it reads for it."""
    read: list[Path] = []
    with monkeypatch.context() as here, file_hashes.memo() as memo:
        here.setattr(records, "sha256", noting(records.sha256, read))
        return FileHashes(memo).of(path), len(read)


def wait_for_a_tick(path: Path) -> None:
    """Wait until the file system's clock has gone on since a file was changed."""
    while Path("clock").write_bytes(b"") == 0 and Path("clock").stat().st_ctime_ns == path.stat().st_ctime_ns:
        pass


def noting(reads: Callable[[Path], Found], read: list[Path]) -> Callable[[Path], Found]:
    def noted(path: Path) -> Found:
        read.append(path)
        return reads(path)

    return noted


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_file_as_it_was_is_read_once_and_one_that_changed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_hashes, "SETTLED", -1.0)
    path = Path("a.jpg")
    path.write_bytes(b"one")
    assert [read_by(path, monkeypatch) for _ in range(2)] == [(sha256(b"one"), 1), (sha256(b"one"), 0)]
    old = path.stat()
    wait_for_a_tick(path)
    path.write_bytes(b"two")
    os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))  # the same size, time and number
    assert path.stat().st_mtime_ns == old.st_mtime_ns and path.stat().st_ino == old.st_ino
    assert read_by(path, monkeypatch) == (sha256(b"two"), 1)
    link = Path("b.jpg")
    link.hardlink_to(path)
    read_by(link, monkeypatch)
    assert read_by(path, monkeypatch)[1] == 0, "one file under two names"


def test_a_file_that_was_just_written_is_not_trusted_next_time(monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path("a.jpg")
    path.write_bytes(b"one")
    assert [read_by(path, monkeypatch)[1] for _ in range(3)] == [1, 1, 1]


def test_a_file_that_is_written_while_it_is_read_is_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_hashes, "SETTLED", -1.0)
    path = Path("a.jpg")
    path.write_bytes(b"one")
    before = path.stat()
    path.write_bytes(b"and more")
    with file_hashes.memo() as memo:
        FileHashes(memo).keep(path, before, time.time_ns(), sha256(b"one"))
    with file_hashes.memo() as memo:
        assert FileHashes(memo).known(before) == ""
        path.unlink()
        FileHashes(memo).keep(path, before, time.time_ns(), sha256(b"one"))  # gone: nothing to say


def test_of_few_files_all_are_looked_at_again_and_of_many_a_share() -> None:
    assert file_hashes.share(0) == file_hashes.share(200) == 1
    assert file_hashes.share(1000) == 0.2 and file_hashes.share(10**6) == 0.01


@pytest.fixture
def root(tmp_path: Path) -> Path:
    chance = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (tmp_path / "raw" / label).mkdir(parents=True)
        for number in range(4):
            picture = Image.fromarray(chance.integers(0, 256, (24, 24, 3), np.uint8))
            picture.save(tmp_path / "raw" / label / f"{number}.png")
    return tmp_path / "raw"


def test_prepare_reads_no_file_that_is_as_it_was(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = replace(DATA, raw=str(root))
    read: list[Path] = []
    monkeypatch.setattr(content, "read", noting(content.read, read))
    monkeypatch.setattr(file_hashes, "SETTLED", -1.0)
    monkeypatch.setattr(file_hashes, "FEWEST", 0)
    monkeypatch.setattr(file_hashes, "SHARE", 0.0)
    first = validation.read(data)
    assert len(read) == 8 and validation.read(data) == first and len(read) == 8
    wait_for_a_tick(root / "cat" / "0.png")
    Image.new("RGB", (24, 24), "red").save(root / "cat" / "0.png")
    again = validation.read(data)
    assert read[8:] == [root / "cat" / "0.png"]
    assert again.samples[0].sha256 == sha256((root / "cat" / "0.png").read_bytes()) != first.samples[0].sha256


def test_a_file_whose_state_lies_has_all_read_again(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = replace(DATA, raw=str(root))
    monkeypatch.setattr(file_hashes, "SETTLED", -1.0)
    first = validation.read(data)
    with file_hashes.memo() as memo:
        status = (root / "dog" / "1.png").stat()
        memo.put(file_hashes._state(status), {"sha256": first.samples[0].sha256})
    monkeypatch.setattr(file_hashes, "share", lambda files: 0.99)  # a draw may miss it
    monkeypatch.setattr(FileHashes, "look_again", lambda hashes: True)
    assert validation.read(data) == first, "not what the wrong entry says"
    assert "dog/1.png: expected the bytes that it had" in capsys.readouterr().err
