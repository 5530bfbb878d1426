import hashlib
import os
from pathlib import Path

import pytest

from thaw.images import content
from thaw.images.integrity import Unusable


def test_bytes_come_back_and_what_holds_none_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"abc")
    assert content.read(path) == b"abc"
    (tmp_path / "empty").touch()
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")  # whoever reads it waits for ever
    monkeypatch.setattr(content, "MAX_BYTES", 4)
    (tmp_path / "large").write_bytes(b"12345")
    kinds = {"empty": "empty", "loop": "unreadable", "pipe": "unreadable", "gone": "unreadable", "large": "too_large"}
    for name, kind in kinds.items():
        with pytest.raises(Unusable) as refused:
            content.read(tmp_path / name)
        assert refused.value.kind == kind
        assert str(tmp_path) not in refused.value.reason


def test_other_bytes_than_were_prepared_are_an_error_that_names_the_file(tmp_path: Path) -> None:
    path, sha256 = tmp_path / "a.png", hashlib.sha256(b"abc").hexdigest()
    path.write_bytes(b"abc")
    assert content.prepared(str(path), sha256) == b"abc"
    path.write_bytes(b"abd")
    with pytest.raises(
        ValueError, match=r"a\.png: expected the image that was prepared, but it holds other bytes; run"
    ):
        content.prepared(str(path), sha256)
    path.unlink()
    with pytest.raises(ValueError, match=r"a\.png: expected the image that was prepared, but cannot be read"):
        content.prepared(str(path), sha256)
