import hashlib
import io
import os
import tempfile
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from thaw import splits, triage

WIDTH, HEIGHT = 12, 8
PIXELS = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
PICTURE = Image.fromarray(PIXELS)


def encoded(kind: str, picture: Image.Image = PICTURE, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


GOOD = {"a.png": encoded("PNG"), "b.jpg": encoded("JPEG"), "c.webp": encoded("WEBP"), "d.bmp": encoded("BMP")}
BAD = {
    "empty.png": (b"", "an empty file"),
    "text.jpg": (b"not a picture at all", "not an image"),
    "cut.png": (encoded("PNG")[:-1], "a damaged image: the PNG ends early or fails its checksum"),
    "picture.tiff": (encoded("TIFF"), "TIFF is a format that training does not decode"),
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes with one good image each."""
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        PICTURE.save(tmp_path / "images" / name / "good.png")
    return tmp_path / "images"


def reasons(findings: triage.Findings) -> dict[str, str]:
    assert all(refusal.remedy for refusal in findings.refusals)
    return {refusal.path: refusal.reason for refusal in findings.refusals}


def state(root: Path) -> dict[str, tuple[str, int]]:
    files = [path for path in root.rglob("*") if path.is_file()]
    return {str(path): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns) for path in files}


def test_a_file_is_described_by_its_bytes_and_its_folder(root: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded("JPEG", exif=exif)
    (root / "cat" / "turned.jpg").write_bytes(data)
    sample = triage.read(root).samples[1]
    expected = ("cat/turned.jpg", hashlib.sha256(data).hexdigest(), "cat", "", HEIGHT, WIDTH, False)
    assert astuple(sample) == expected


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_cannot_be_used_is_left_out_with_its_reason(root: Path, name: str) -> None:
    data, reason = BAD[name]
    (root / "cat" / name).write_bytes(data)
    findings = triage.read(root)
    assert [sample.path for sample in findings.samples] == ["cat/good.png", "dog/good.png"]
    assert reasons(findings) == {f"cat/{name}": reason}


def test_the_files_are_not_changed_and_come_sorted(root: Path) -> None:
    for name, data in GOOD.items():
        (root / "dog" / name).write_bytes(data)
    for name, (data, _) in BAD.items():
        (root / "cat" / f"bad {name}").write_bytes(data)
    before = state(root)
    findings = triage.read(root)
    assert state(root) == before
    assert len(findings.samples) == len(GOOD) + 2
    assert len(findings.refusals) == len(BAD)
    for found in ([sample.path for sample in findings.samples], list(reasons(findings))):
        assert found == sorted(found)
    assert triage.read(root) == findings


def test_a_file_beyond_the_size_limit_is_not_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triage, "MAX_BYTES", 2**20)
    with (root / "cat" / "film.mp4").open("wb") as file:
        file.truncate(2**20 + 1)
    assert reasons(triage.read(root)) == {"cat/film.mp4": "larger than 1 MiB"}


def test_an_ending_of_another_format_is_noted_and_harmless(root: Path) -> None:
    (root / "cat" / "lie.png").write_bytes(encoded("JPEG"))
    (root / "cat" / "no_ending").write_bytes(encoded("JPEG"))
    findings = triage.read(root)
    assert [sample.path for sample in findings.samples if sample.misnamed] == ["cat/lie.png"]
    assert findings.refusals == []


def test_names_may_hold_spaces_and_any_letters(root: Path) -> None:
    (root / "großer Hund, alt").mkdir()
    PICTURE.save(root / "großer Hund, alt" / "日本 1.PNG")
    sample = triage.read(root).samples[-1]
    assert (sample.path, sample.label) == ("großer Hund, alt/日本 1.PNG", "großer Hund, alt")


def test_a_name_that_is_not_unicode_is_refused(root: Path) -> None:
    try:
        (root / "cat" / os.fsdecode(b"caf\xe9.png")).write_bytes(GOOD["a.png"])
    except OSError:
        pytest.skip("this file system takes Unicode names only")
    assert reasons(triage.read(root)) == {"cat/caf?.png": "its name is not valid Unicode"}


def test_hidden_files_and_what_systems_leave_behind_are_only_counted(root: Path) -> None:
    for name in (".DS_Store", "cat/Thumbs.db", "cat/._good.png", "desktop.ini"):
        (root / name).write_bytes(b"x")
    (root / ".git").mkdir()
    (root / "__MACOSX").mkdir()
    findings = triage.read(root)
    assert (findings.ignored, findings.refusals, findings.classes) == (6, [], ["cat", "dog"])


def test_files_outside_the_class_folders_or_too_deep_are_refused(root: Path) -> None:
    PICTURE.save(root / "loose.png")
    (root / "cat" / "old" / "older").mkdir(parents=True)
    PICTURE.save(root / "cat" / "old" / "deep.png")
    PICTURE.save(root / "cat" / "old" / "older" / "deeper.png")
    assert reasons(triage.read(root)) == {
        "cat/old/deep.png": "lies deeper than one folder per class",
        "cat/old/older/deeper.png": "lies deeper than one folder per class",
        "loose.png": "lies outside the class folders",
    }


def test_links_are_followed_inside_the_folder_and_refused_else(root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    PICTURE.save(tmp_path / "outside" / "far.png")
    (root / "cat" / "near.png").symlink_to(root / "dog" / "good.png")
    (root / "cat" / "far.png").symlink_to(tmp_path / "outside" / "far.png")
    (root / "cat" / "gone.png").symlink_to(root / "cat" / "nowhere.png")
    (root / "cat" / "self.png").symlink_to(root / "cat" / "self.png")
    (root / "cat" / "up").symlink_to(root)
    (root / "cow").symlink_to(tmp_path / "outside")
    (root / "kitten").symlink_to(root / "cat")
    findings = triage.read(root)
    taken = [sample.path for sample in findings.samples]
    assert taken == ["cat/good.png", "cat/near.png", "dog/good.png", "kitten/good.png", "kitten/near.png"]
    found = reasons(findings)
    assert found["cat/far.png"] == found["cow"] == "a link that leads out of the image folder"
    assert found["cat/gone.png"] == found["cat/self.png"] == "a broken link"
    assert found["cat/up"] == "a link to a folder that it lies in"


def test_the_folder_itself_may_be_a_link_and_its_files_links_into_dvcs_cache(root: Path, tmp_path: Path) -> None:
    stored = tmp_path / "cache" / "files" / "md5" / "0a" / "1b2c3d4e5f60718293a4b5c6d7e8f9"
    stored.parent.mkdir(parents=True)
    stored.write_bytes(encoded("PNG"))
    (root / "cat" / "cached.png").symlink_to(stored)
    (tmp_path / "link").symlink_to(root)
    findings = triage.read(tmp_path / "link")
    assert [sample.path for sample in findings.samples] == ["cat/cached.png", "cat/good.png", "dog/good.png"]
    assert findings.refusals == []


def test_something_that_is_not_a_file_is_refused_without_waiting_for_it(root: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("no named pipes here")
    os.mkfifo(root / "cat" / "pipe.png")
    assert reasons(triage.read(root)) == {"cat/pipe.png": "not a file"}


@pytest.fixture
def as_nobody() -> Iterator[Path]:
    """A folder that all may enter, read by a user who is not root, for whom no permission counts."""
    if not hasattr(os, "geteuid"):
        pytest.skip("no POSIX permissions here")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_what_may_not_be_read_is_refused(as_nobody: Path) -> None:
    for name in ("cat", "dog", "cow"):
        (as_nobody / name).mkdir(mode=0o755)
        PICTURE.save(as_nobody / name / "good.png")
    PICTURE.save(as_nobody / "cat" / "secret.png")
    (as_nobody / "cat" / "secret.png").chmod(0)
    (as_nobody / "cow").chmod(0)
    me = os.geteuid()
    triage.read(as_nobody)  # so that nothing of Python is loaded after the change of user
    if me == 0:
        os.seteuid(65534)
    try:
        findings = triage.read(as_nobody)
    finally:
        os.seteuid(me)
        (as_nobody / "cow").chmod(0o755)
    assert reasons(findings) == dict.fromkeys(("cat/secret.png", "cow"), "no permission to read it")
    with pytest.raises(ValueError, match=r"class cow: expected a usable image.*no permission"):
        triage.check(findings)


def divided(tmp_path: Path, *names: str) -> Path:
    for name in names:
        (tmp_path / name).mkdir(parents=True)
        PICTURE.save(tmp_path / name / "good.png")
    return tmp_path


def test_splits_as_folders_are_read_as_such(tmp_path: Path) -> None:
    findings = triage.read(divided(tmp_path, "train/b", "train/a", "val/a", "test/b"))
    assert findings.classes == ["a", "b"]
    found = [(sample.path, sample.label, sample.split) for sample in findings.samples]
    assert found == [
        ("test/b/good.png", "b", "test"),
        ("train/a/good.png", "a", "train"),
        ("train/b/good.png", "b", "train"),
        ("val/a/good.png", "a", "val"),
    ]


def test_a_folder_named_train_beside_other_classes_is_a_class(tmp_path: Path) -> None:
    findings = triage.read(divided(tmp_path, "train", "car", "test"))
    assert findings.classes == ["car", "test", "train"]
    assert {sample.split for sample in findings.samples} == {""}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "expected one folder per class.*received 0 files and no class folder"),
        (("cat",), "expected at least 2 classes, received only cat/"),
        (("train/cat",), "expected at least 2 classes, received only cat/"),
        (("train",), "received 1 files and no class folder"),
        (("train/a", "train/b", "valid/a"), "received valid/; rename it to train/, val/ or test/"),
        (("Train/a", "Train/b", "Test/a"), "received Test/; rename it"),
        (("val/a", "val/b", "test/a"), "received test, val without train/"),
        (("train/a", "train/b", "val/c"), "expected every class in train/, received c/ in another split only"),
    ],
)
def test_another_layout_is_an_error_that_says_what_is_expected(
    tmp_path: Path, names: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        triage.read(divided(tmp_path, *names))


def test_images_that_all_lie_loose_are_an_error(tmp_path: Path) -> None:
    PICTURE.save(tmp_path / "a.png")
    PICTURE.save(tmp_path / "b.png")
    with pytest.raises(ValueError, match="received 2 files and no class folder; make a folder for each class"):
        triage.read(tmp_path)


def test_a_missing_folder_is_an_error_that_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none: expected one folder per class.*set data\.raw"):
        triage.read(tmp_path / "none")


def test_a_class_without_a_usable_image_is_an_error(root: Path) -> None:
    triage.check(triage.read(root))
    (root / "cow").mkdir()
    with pytest.raises(ValueError, match=r"class cow: expected a usable image, received none; add images"):
        triage.check(triage.read(root))
    (root / "cow" / "x.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"1 were left out \(first cow/x.png: an empty file"):
        triage.check(triage.read(root))


def shared(name: str) -> Path:
    beside = Path(__file__).resolve().parents[2].parent / "shared"
    folder = Path(os.environ.get("THAW_SHARED", beside)) / "datasets" / name
    if not folder.is_dir():
        pytest.skip(f"no data set {name} here")
    return folder


def test_real_photographs_are_all_taken_and_their_conflicts_found() -> None:
    findings = triage.read(shared("trashnet"))
    assert (len(findings.samples), len(findings.refusals), len(findings.classes)) == (2527, 0, 6)
    contents = [sample.sha256 for sample in findings.samples]
    assert len(splits.conflicts(contents, [sample.label for sample in findings.samples])) == 3


def test_a_real_data_set_with_its_own_splits_is_recognised() -> None:
    findings = triage.read(shared("hymenoptera"))
    counts = {split: sum(sample.split == split for sample in findings.samples) for split in ("train", "val", "test")}
    assert counts == {"train": 244, "val": 153, "test": 0}
