import os
from pathlib import Path

import pytest

from thaw.data import folders

EMPTY = b"whatever: ingest opens no file"


def made(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(EMPTY)
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes with one file each."""
    return made(tmp_path / "images", "cat/good.png", "dog/good.png")


def find(root: Path, nested: bool = False) -> folders.Found:
    return folders.find(str(root), nested)


def entries(found: folders.Found) -> list[tuple[str, str, str]]:
    return sorted((entry.path, entry.label, entry.split) for entry in found.entries)


def findings(found: folders.Found) -> dict[str, tuple[str, str]]:
    return {each.path: (each.kind, each.reason) for each in found.findings}


def test_a_folder_is_a_class(root: Path) -> None:
    found = find(root)
    assert found.classes == ["cat", "dog"]
    assert entries(found) == [("cat/good.png", "cat", ""), ("dog/good.png", "dog", "")]
    assert (found.root, len(found.findings), found.ignored) == (root, 0, 0)


def test_names_may_hold_spaces_and_any_letters(root: Path) -> None:
    made(root, "großer Hund, alt/日本 1.PNG")
    assert ("großer Hund, alt/日本 1.PNG", "großer Hund, alt", "") in entries(find(root))


def test_a_name_that_is_not_unicode_is_refused(root: Path) -> None:
    try:
        (root / "cat" / os.fsdecode(b"caf\xe9.png")).write_bytes(EMPTY)
    except OSError:
        pytest.skip("this file system takes Unicode names only")
    assert findings(find(root)) == {"cat/caf?.png": ("name", "its name is not valid Unicode")}


def test_a_class_folder_whose_name_is_not_unicode_is_a_class_without_images(root: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    try:
        made(root, f"{name}/1.png")
    except OSError:
        pytest.skip("this file system takes Unicode names only")
    found = find(root)
    assert found.classes == ["caf?", "cat", "dog"]
    assert findings(found)["caf?/1.png"][0] == "name"
    ready = made(root.parent / "ready", "train/a/1.png", "train/b/1.png", f"train/{name}/1.png", f"val/{name}/1.png")
    assert find(ready).classes == ["a", "b", "caf?"]
    made(ready, f"{name}/1.png")
    with pytest.raises(ValueError, match=r"received caf\?/ beside train"):
        find(ready)


def test_hidden_files_and_what_systems_leave_behind_are_only_counted(root: Path) -> None:
    made(root, ".DS_Store", "cat/Thumbs.db", "cat/._good.png", "desktop.ini", ".git/config", "__MACOSX/cat.png")
    found = find(root)
    assert (found.ignored, len(found.findings), found.classes) == (6, 0, ["cat", "dog"])


def test_files_outside_the_class_folders_or_too_deep_are_misplaced(root: Path) -> None:
    made(root, "loose.png", "cat/old/deep.png", "cat/old/older/deeper.png")
    assert findings(find(root)) == {
        "cat/old/deep.png": ("misplaced", "lies deeper than one folder per class"),
        "cat/old/older/deeper.png": ("misplaced", "lies deeper than one folder per class"),
        "loose.png": ("misplaced", "lies outside the class folders"),
    }


def test_nested_folders_are_classes_of_their_own_when_asked(root: Path) -> None:
    made(root, "cat/old/deep.png", "cow/brown/young/calf.png", "loose.png")
    (root / "eel" / "none").mkdir(parents=True)
    found = find(root, nested=True)
    assert found.classes == ["cat", "cat/old", "cow/brown/young", "dog", "eel/none"]
    assert ("cat/old/deep.png", "cat/old", "") in entries(found)
    assert list(findings(found)) == ["loose.png"]


def test_nested_classes_may_lie_in_splits(tmp_path: Path) -> None:
    found = find(made(tmp_path, "train/a/x/1.png", "train/b/1.png", "val/a/x/2.png"), nested=True)
    assert found.classes == ["a/x", "b"]
    assert ("val/a/x/2.png", "a/x", "val") in entries(found)


def test_links_are_followed_wherever_they_lead_and_loops_are_refused(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made(tmp_path, "outside/far.png")
    (root / "cat" / "near.png").symlink_to(root / "dog" / "good.png")
    (root / "cat" / "far.png").symlink_to(tmp_path / "outside" / "far.png")
    (root / "cat" / "gone.png").symlink_to(root / "cat" / "nowhere.png")
    (root / "cat" / "self.png").symlink_to(root / "cat" / "self.png")
    (root / "cat" / "up").symlink_to(root)
    (tmp_path / "outside" / "back").symlink_to(root)
    (root / "cow").symlink_to(tmp_path / "outside")
    (root / "kitten").symlink_to(root / "cat")
    found = find(root)
    taken = [path for path, _, _ in entries(found)]
    cats = ["far.png", "good.png", "near.png"]
    assert taken == [*(f"cat/{n}" for n in cats), "cow/far.png", "dog/good.png", *(f"kitten/{n}" for n in cats)]
    assert found.classes == ["cat", "cow", "dog", "kitten"]
    listed = findings(found)
    assert listed["cat/gone.png"] == listed["cat/self.png"] == ("link", "a broken link")
    assert listed["cat/up"] == listed["cow/back"] == ("link", "a link to a folder that it lies in")
    assert "links to folders (2, first cow)" in " ".join(capsys.readouterr().err.split())


def test_all_folders_of_classes_may_be_links_and_so_may_those_of_splits(root: Path, tmp_path: Path) -> None:
    (tmp_path / "links").mkdir()
    for label in ("cat", "dog"):
        (tmp_path / "links" / label).symlink_to(root / label)
    assert [path for path, _, _ in entries(find(tmp_path / "links"))] == ["cat/good.png", "dog/good.png"]
    (tmp_path / "ready").mkdir()
    (tmp_path / "ready" / "train").symlink_to(root)
    (tmp_path / "ready" / "test").symlink_to(tmp_path / "links")
    assert [split for _, _, split in entries(find(tmp_path / "ready"))] == ["test", "test", "train", "train"]


def test_a_class_whose_link_is_broken_stays_a_class_and_a_split_stops(tmp_path: Path) -> None:
    made(tmp_path, "plain/a/1.png", "plain/b/1.png", "ready/train/a/1.png", "ready/train/b/1.png")
    for link in ("plain/c", "plain/loose.png", "ready/train/c"):
        (tmp_path / link).symlink_to("nowhere")
    (tmp_path / "plain" / "d").symlink_to(".")
    assert find(tmp_path / "plain").classes == ["a", "b", "c", "d"]
    assert find(tmp_path / "ready").classes == ["a", "b", "c"]
    (tmp_path / "ready" / "test").symlink_to("nowhere")
    with pytest.raises(ValueError, match=r"ready/test: .*received a broken link; "):
        find(tmp_path / "ready")


@pytest.mark.parametrize("name", [".c/1.png", "train/.c/1.PNG", ".test/a/1.png"])
def test_a_hidden_class_or_split_stops(tmp_path: Path, name: str) -> None:
    below = "" if name == ".c/1.png" else "train/"
    made(tmp_path, f"{below}a/1.png", f"{below}b/1.png", name)
    with pytest.raises(ValueError, match=r"/\.(c|test): expected names .* that do not begin with a dot"):
        find(tmp_path)


def test_hidden_folders_of_tools_and_without_images_are_passed_over(root: Path) -> None:
    made(root, ".ipynb_checkpoints/1.png", ".thumbnails/1.png", ".tool/config", "cat/.old/1.png", ".DS_Store")
    assert (find(root).classes, find(root).ignored) == (["cat", "dog"], 5)


def test_the_folder_itself_may_be_a_link_and_its_files_links_into_dvcs_cache(root: Path, tmp_path: Path) -> None:
    stored = made(tmp_path, "cache/files/md5/0a/1b2c3d4e5f60718293a4b5c6d7e8f9")
    (root / "cat" / "cached.png").symlink_to(stored / "cache/files/md5/0a/1b2c3d4e5f60718293a4b5c6d7e8f9")
    (tmp_path / "link").symlink_to(root)
    found = find(tmp_path / "link")
    assert [path for path, _, _ in entries(found)] == ["cat/cached.png", "cat/good.png", "dog/good.png"]
    assert found.findings == []


def test_splits_as_folders_are_read_as_such(tmp_path: Path) -> None:
    found = find(made(tmp_path, "train/b/1.png", "train/a/1.png", "val/a/1.png", "test/b/1.png"))
    assert found.classes == ["a", "b"]
    assert entries(found) == [
        ("test/b/1.png", "b", "test"),
        ("train/a/1.png", "a", "train"),
        ("train/b/1.png", "b", "train"),
        ("val/a/1.png", "a", "val"),
    ]


def test_a_folder_named_train_beside_other_classes_is_a_class(tmp_path: Path) -> None:
    found = find(made(tmp_path, "train/1.png", "car/1.png", "test/1.png"))
    assert found.classes == ["car", "test", "train"]
    assert {split for _, _, split in entries(found)} == {""}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "expected one folder per class.*received 0 files and no class folder"),
        (("a.png", "b.png"), "received 2 files and no class folder; make a folder for each class"),
        (("cat/1",), "expected at least 2 classes, received only cat/"),
        (("cat/1", "cat/a/1"), "received only cat/; add the other classes"),
        (
            ("flowers/a/1", "flowers/b/1"),
            "received only flowers/; if a/ and b/ in it hold the images, name .*/flowers$",
        ),
        (("train/cat/1",), "expected at least 2 classes, received only cat/"),
        (("train/1",), "received 1 files and no class folder"),
        (("train/a/1", "train/b/1", "valid/a/1"), "received valid/; rename it to train/, val/ or test/"),
        (("Train/a/1", "Train/b/1", "Test/a/1"), "received Test/; rename it"),
        (("val/a/1", "val/b/1", "test/a/1"), "received test, val without train/"),
        (
            ("train/a/1.png", "train/b/1.png", "val/a/1.png", "annotations/1.xml"),
            "received annotations/ beside train, val; move what is no split elsewhere",
        ),
        (("Train/a/1.png", "Train/b/1.png", "extra/x/1.png"), "received extra/ beside Train; move"),
        (
            ("train/a/1", "train/b/1", "val/c/1"),
            "expected every class in train/, received c/ in another split only",
        ),
    ],
)
def test_another_layout_is_an_error_that_says_what_is_expected(
    tmp_path: Path, names: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        find(made(tmp_path, *names))


def test_a_missing_folder_is_an_error_that_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none: expected one folder per class.*set data\.raw"):
        find(tmp_path / "none")
    made(tmp_path, "list.txt")
    with pytest.raises(
        ValueError, match=r"list\.txt: expected .* or a \.csv or \.parquet file, received another file"
    ):
        find(tmp_path / "list.txt")


def test_a_table_is_read_where_data_raw_is_one(root: Path) -> None:
    (root / "images.csv").write_text("path,label,split\ncat/good.png,a,train\ndog/good.png,b,\n")
    found = folders.find(str(root / "images.csv"), nested=False)
    assert (found.root, found.classes) == (root, ["a", "b"])
    assert entries(found) == [("cat/good.png", "a", "train"), ("dog/good.png", "b", "")]


def test_a_table_of_one_label_is_an_error(root: Path) -> None:
    (root / "images.csv").write_text("path,label\ncat/good.png,a\ndog/good.png,a\n")
    with pytest.raises(ValueError, match="expected at least 2 labels, received 1"):
        folders.find(str(root / "images.csv"), nested=False)


def test_a_nested_class_named_train_beside_other_classes_is_a_class(tmp_path: Path) -> None:
    made(tmp_path, "train/steam/1.png", "car/red/1.png")
    assert find(tmp_path, nested=True).classes == ["car/red", "train/steam"]
