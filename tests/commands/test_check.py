"""`thaw check`: what prepare would say, and nothing written."""

from pathlib import Path

import pytest

from thaw import paths
from thaw.commands import check


def everything(folder: Path) -> set[tuple[str, int]]:
    return {(str(path), path.stat().st_mtime_ns) for path in folder.rglob("*")}


def test_it_counts_what_prepare_would_use_and_leave_out_and_writes_nothing(project: Path, tiny_images: Path) -> None:
    (tiny_images / "class_0" / "broken.png").write_bytes((tiny_images / "class_0" / "00.png").read_bytes()[:500])
    (tiny_images / "class_1" / "copy.png").write_bytes((tiny_images / "class_1" / "00.png").read_bytes())
    before = everything(project)
    found, stops = check.look(str(tiny_images), [])
    assert stops == "" and everything(project) == before
    assert found["classes"] == {"class_0": 12, "class_1": 13, "class_2": 12} and found["refused"] == 1
    assert sum(each["images"] for each in found["splits"].values()) == 37
    assert found["duplicates"] == 1 and found["kinds"]["truncated"] == 1
    said = "\n".join(check.lines(found))
    assert "37 usable images of 3 classes" in said and "class_0/broken.png" in said


def test_where_prepare_would_stop_it_says_why(
    tiny_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # outside of a project the package's own settings hold
    for path in (tiny_images / "class_1").iterdir():
        path.write_bytes(b"text")
    found, stops = check.look("data/raw", [])
    assert stops.startswith("data.max_bad_share: expected") and paths.QUARANTINE.as_posix() not in stops
    assert found["kinds"]["not_an_image"] == 12
    assert check.look("data/raw", ["data.max_bad_share=1", "data.policy.few=quarantine"])[1] == ""


@pytest.mark.parametrize("words", [[], ["data.policy.truncated=fail"], ["data.min_per_class=13"]])
def test_no_list_is_named_that_is_not_written(
    words: list[str], tiny_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for path in sorted((tiny_images / "class_0").iterdir())[: 1 if words else 12]:
        path.write_bytes(path.read_bytes()[:500])
    stops = check.look("data/raw", words)[1]
    assert stops and paths.QUARANTINE.name not in stops and "lists" not in stops


def test_other_images_than_those_that_are_named_are_refused_and_so_is_an_empty_word(tiny_images: Path) -> None:
    with pytest.raises(ValueError, match=r"expected the images once, received .*data/raw and data\.raw=other"):
        check.look(str(tiny_images), ["data.raw=other"])
    with pytest.raises(ValueError, match="DIR: expected the path of images, received an empty word"):
        check.look("", [])


@pytest.mark.parametrize(("name", "said"), [("a.zip", "; unpack it"), ("a.tsv", "; rename it to end in .csv")])
def test_a_file_of_another_kind_is_said_with_what_to_do(name: str, said: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    with pytest.raises(ValueError, match=f"received another file{said}$"):
        check.look(str(tmp_path / name), [])


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected a folder of images, or a table of them, found nothing at"):
        check.look(str(tmp_path / "nowhere"), [])
