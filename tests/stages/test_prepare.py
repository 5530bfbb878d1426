import csv
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from stages import prepare
from thaw import paths, records, timings
from thaw.evaluation import slices
from thaw.images import manifest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of two classes with ten images each; their folder is data/raw."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["tracking"]["enabled"] = False
    params["data"] |= {"raw": "data/raw", "val": 0.2, "test": 0.2, "seed": 0, "min_side": 5}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for label in ("cat", "dog"):
        fill(Path("data/raw") / label, 10)
    return tmp_path


def fill(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    random = np.random.default_rng(sum(folder.as_posix().encode()))
    for index in range(count):
        Image.fromarray(random.integers(0, 256, (5, 7, 3), dtype=np.uint8)).save(folder / f"{index}.png")


def made() -> dict[Path, bytes]:
    files = [paths.MANIFEST, paths.CLASSES, paths.QUARANTINE, paths.metrics("prepare")]
    return {path: path.read_bytes() for path in files}


def test_the_manifest_lists_every_usable_image_with_its_split(project: Path) -> None:
    prepare.main()
    rows = records.read_csv(paths.MANIFEST)
    assert list(rows[0])[:6] == ["path", "sha256", "label", "split", "width", "height"]
    assert list(rows[0])[6:] == ["fingerprint", "group", "weight", "converted", "unit"]
    assert [row["path"] for row in rows] == sorted(f"{label}/{i}.png" for label in ("cat", "dog") for i in range(10))
    for row in rows:
        assert row["sha256"] == records.sha256(Path("data/raw") / row["path"])
        assert (row["label"], row["width"], row["height"]) == (row["path"].split("/")[0], "7", "5")
    counts = Counter((row["label"], row["split"]) for row in rows)
    assert counts == {
        (label, name): n for label in ("cat", "dog") for name, n in [("train", 6), ("val", 2), ("test", 2)]
    }
    assert records.read_json(paths.CLASSES) == {"classes": ["cat", "dog"]}
    assert paths.QUARANTINE.read_text(encoding="utf-8") == "path,kind,action,reason,remedy\n"


def test_the_same_images_give_the_same_bytes(project: Path) -> None:
    prepare.main()
    first = made()
    shutil.rmtree(paths.PREPARED)
    prepare.main()
    assert made() == first


def test_at_its_end_it_says_what_follows_and_how_long_that_may_take(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare.main()
    last = capsys.readouterr().out.splitlines()[-1]
    views = yaml.safe_load(paths.PARAMS.read_text(encoding="utf-8"))["augment"]["views"]
    assert last.startswith(
        "prepare: what follows takes at most about 15 s, as nothing was measured here yet, a guess: "
    )
    assert f" {12 * views + 4} views " in last
    for what in ("extraction", "phase1", "phase2"):
        timings.note(what, count=1, seconds=0.01)
    prepare.main()
    assert "what follows takes at most about " in capsys.readouterr().out.splitlines()[-1]


def test_what_is_left_out_is_in_the_quarantine_and_in_the_figures(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("data/raw/cat/notes, old.txt").write_text("no picture")
    Path("data/raw/dog/empty.png").touch()
    Path("data/raw/dog/.DS_Store").touch()
    shutil.copy("data/raw/cat/0.png", "data/raw/cat/copy.png")
    shutil.copy("data/raw/cat/1.png", "data/raw/dog/cat after all.jpg")
    prepare.main()
    quarantine = records.read_csv(paths.QUARANTINE)
    assert [(row["path"], row["kind"], row["action"]) for row in quarantine] == [
        ("cat/notes, old.txt", "not_an_image", "quarantined"),
        ("dog/cat after all.jpg", "misnamed", "kept"),
        ("dog/empty.png", "empty", "quarantined"),
    ]
    figures = records.read_json(paths.metrics("prepare"))
    expected = {"images": 22, "classes": 2, "refused": 2, "ignored": 1, "converted": 0}
    expected |= {"duplicates": 2, "label_conflicts": 1}
    assert {key: figures[key] for key in expected} == expected
    assert figures["kinds"]["misnamed"] == figures["kinds"]["empty"] == 1
    assert [each["path"] for each in figures["quarantine"]] == ["cat/notes, old.txt", "dog/empty.png"]
    assert figures["leaks"] == {"train_val": 0, "train_test": 0, "val_test": 0}
    assert figures["leaked_images"] == {"val": 0, "test": 0} and "leaks" not in capsys.readouterr().err
    split = {row["path"]: row["split"] for row in records.read_csv(paths.MANIFEST)}
    assert split["cat/1.png"] == split["dog/cat after all.jpg"] == "train"
    assert split["cat/0.png"] == split["cat/copy.png"]
    for name in paths.SPLITS:
        total = sum(row[name] for row in figures["per_class"])
        assert total == figures["splits"][name]["images"] == list(split.values()).count(name)


def test_ready_made_splits_are_kept_and_their_leaks_are_told(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("train", "test"):
        for label in ("cat", "dog"):
            fill(Path("data/ready") / name / label, 10)
    shutil.copy("data/ready/train/cat/0.png", "data/ready/test/cat/leak.png")
    text = Path("params.yaml").read_text(encoding="utf-8")
    Path("params.yaml").write_text(text.replace("data/raw", "data/ready"), encoding="utf-8")
    prepare.main()
    figures = records.read_json(paths.metrics("prepare"))
    sources = {name: figures["splits"][name]["source"] for name in paths.SPLITS}
    assert sources == {"train": "folder", "val": "drawn", "test": "folder"}
    assert figures["splits"]["test"]["images"] == 21
    assert figures["splits"]["val"]["images"] == 4
    assert figures["leaks"]["train_test"] + figures["leaks"]["val_test"] == 1
    assert figures["leaked_images"] == {"val": 0, "test": 1}
    line, few = capsys.readouterr().err.splitlines()
    assert "1 of 21 test images" in line
    assert "val has 4 independent images" in few


def test_where_too_much_is_bad_the_stage_stops_and_the_quarantine_tells_why(project: Path) -> None:
    for path in Path("data/raw/dog").iterdir():
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"received 10 of 20 \(10 empty; first dog/0\.png"):
        prepare.main()
    kinds = Counter(row["kind"] for row in records.read_csv(paths.QUARANTINE))
    assert kinds == {"empty": 10, "few": 1}
    assert not paths.MANIFEST.exists()


def test_a_table_of_images_is_prepared_with_its_groups_weights_and_own_columns(project: Path) -> None:
    lines = [
        f"{label}/{i}.png,{label},{'test' if i > 7 else ''},person {i},{i},cam {i % 2},note {label} {i}"
        for label in ("cat", "dog")
        for i in range(10)
    ]
    Path("data/raw/images.csv").write_text(
        "path,label,split,group,weight,camera,note\n" + "\n".join(lines), encoding="utf-8"
    )
    text = Path("params.yaml").read_text(encoding="utf-8")
    Path("params.yaml").write_text(text.replace("data/raw", "data/raw/images.csv"), encoding="utf-8")
    prepare.main()
    rows = records.read_csv(paths.MANIFEST)
    assert len(rows) == 20
    assert [row["path"] for row in rows if row["split"] == "test"] == [
        "cat/8.png",
        "cat/9.png",
        "dog/8.png",
        "dog/9.png",
    ]
    assert (rows[3]["path"], rows[3]["group"], rows[3]["weight"]) == ("cat/3.png", "person 3", "3.0")
    assert list(rows[0])[-2:] == ["table:camera", "table:note"] and rows[3]["table:camera"] == "cam 1"
    test = [row for row in rows if row["split"] == "test"]
    cameras = [chosen.tolist() for kind, _, chosen in slices.slices(test) if kind == "camera"]
    assert cameras == [[True, False, True, False], [False, True, False, True]]


def test_what_is_converted_is_part_of_what_the_stage_makes(project: Path) -> None:
    with Image.open("data/raw/cat/0.png") as image:
        image.save("data/raw/cat/scan.tif")
    prepare.main()
    (row,) = (row for row in records.read_csv(paths.MANIFEST) if row["path"] == "cat/scan.tif")
    assert row["converted"] == records.sha256(paths.converted(row["sha256"]))
    assert row["converted"] != row["sha256"] == records.sha256(Path("data/raw/cat/scan.tif"))
    assert records.read_json(paths.metrics("prepare"))["converted"] == 1


def table(rows: list[tuple[str, str, str, str]]) -> None:
    """Let data.raw be a table of path, label, split and group."""
    text = "path,label,split,group\n" + "".join(",".join(row) + "\n" for row in rows)
    Path("data/raw/images.csv").write_text(text, encoding="utf-8")
    params = Path("params.yaml").read_text(encoding="utf-8")
    Path("params.yaml").write_text(params.replace("raw: data/raw\n", "raw: data/raw/images.csv\n"), encoding="utf-8")


def test_a_group_goes_whole_to_the_test_that_one_of_it_was_given_to(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table(
        [(f"{c}/{i}.png", c, "test" if i == 0 else "", f"person {i % 4}") for c in ("cat", "dog") for i in range(10)]
    )
    shutil.copy("data/raw/cat/0.png", "data/raw/copy.png")  # in no group, and the same bytes
    with Path("data/raw/images.csv").open("a") as file:
        file.write("copy.png,cat,,\n")
    prepare.main()
    rows = records.read_csv(paths.MANIFEST)
    of = {group: {row["split"] for row in rows if row["group"] == group} for group in {row["group"] for row in rows}}
    assert of["person 0"] == of[""] == {"test"}
    assert all(len(found) == 1 for found in of.values())
    assert len({row["unit"] for row in rows if row["split"] == "test"}) == 1
    assert len({row["unit"] for row in rows}) == 4
    assert records.read_csv(paths.LEAKS) == []
    assert "5 images without a split went to test" in " ".join(capsys.readouterr().err.split())


def test_a_group_that_the_given_splits_tear_is_listed_counted_and_said(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["train"] * 6 + ["val"] * 2 + ["test"] * 2
    table([(f"{c}/{i}.png", c, given[i], "one" if c == "cat" else "") for c in ("cat", "dog") for i in range(10)])
    prepare.main()
    rows = records.read_csv(paths.LEAKS)
    assert {row["kind"] for row in rows} == {"group"}
    assert {row[name] for row in rows for name in ("path", "other_path")} == {f"cat/{i}.png" for i in range(10)}
    figures = records.read_json(paths.metrics("prepare"))
    assert (figures["near_leaks"], figures["group_leaks"]) == (0, len(rows))
    said = " ".join(capsys.readouterr().err.split())
    assert "2 of 4 test images" in said and "leaks.csv lists pairs" in said


def test_where_all_training_images_are_copies_of_the_test_the_leak_is_said_and_validation_drawn(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table([(f"{c}/{i}.png", c, "train", "") for c in ("cat", "dog") for i in range(10)])
    with Path("data/raw/images.csv").open("a") as file:
        for c in ("cat", "dog"):
            for i in range(10):
                shutil.copy(f"data/raw/{c}/{i}.png", f"data/raw/{c}/copy {i}.png")
                file.write(f"{c}/copy {i}.png,{c},test,\n")
    prepare.main()
    sizes = Counter((row["label"], row["split"]) for row in records.read_csv(paths.MANIFEST))
    assert all(sizes[c, "test"] == 10 and sizes[c, "val"] > 0 and sizes[c, "train"] > 0 for c in ("cat", "dog"))
    figures = records.read_json(paths.metrics("prepare"))
    assert figures["leaked_images"] == {"val": 0, "test": 20}
    assert figures["leaks"]["train_test"] + figures["leaks"]["val_test"] == 20
    assert "20 of 20 test images" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(("split", "weight"), [("test", "1"), ("train", "0")])
def test_a_class_without_anything_to_train_on_stops_the_stage(project: Path, split: str, weight: str) -> None:
    rows = [f"cat/{i}.png,cat,{paths.SPLITS[i % 3]},1" for i in range(10)]
    rows += [f"dog/{i}.png,dog,{split if i < 6 else 'val'},{weight}" for i in range(10)]
    table([])
    Path("data/raw/images.csv").write_text("path,label,split,weight\n" + "\n".join(rows), encoding="utf-8")
    received = "4 in val, 6 in test" if split == "test" else "6 in train, 4 in val of weight 0"
    with pytest.raises(ValueError, match=rf"class dog: expected training images of every class, received {received};"):
        prepare.main()
    assert not paths.MANIFEST.exists()


def test_a_class_with_an_empty_folder_in_train_stops_the_stage(project: Path) -> None:
    for name, count in (("train", 10), ("test", 4)):
        for label in ("cat", "dog"):
            fill(Path("data/ready") / name / label, count)
    fill(Path("data/ready/test/eel"), 4)
    Path("data/ready/train/eel").mkdir()
    params = Path("params.yaml").read_text(encoding="utf-8")
    Path("params.yaml").write_text(params.replace("data/raw", "data/ready"), encoding="utf-8")
    with pytest.raises(ValueError, match=r"class eel: expected training images of every class, received 4 in test"):
        prepare.main()


def test_images_that_were_away_once_are_back_in_their_splits(project: Path) -> None:
    prepare.main()
    first = {row["path"]: row["split"] for row in records.read_csv(paths.MANIFEST)}
    # Of each class one image of each split, so that every split still has one.
    away = [min(p for p in first if p.startswith(c) and first[p] == s) for c in ("cat", "dog") for s in paths.SPLITS]
    Path("away/cat").mkdir(parents=True)
    Path("away/dog").mkdir()
    for path in away:
        shutil.move(Path("data/raw") / path, Path("away") / path)
    prepare.main()
    for path in away:
        shutil.move(Path("away") / path, Path("data/raw") / path)
        fill(Path("data/more") / Path(path).with_suffix(""), 2)  # and new ones come, among which they would be drawn
        for index in range(2):
            shutil.move(
                Path("data/more") / Path(path).with_suffix("") / f"{index}.png",
                Path("data/raw") / f"{path}{index}.png",
            )
    prepare.main()
    last = {row["path"]: row["split"] for row in records.read_csv(paths.MANIFEST)}
    assert {path: last[path] for path in first} == first


def test_no_name_of_a_file_or_a_class_changes_what_the_manifest_says(project: Path, tiny_images: Path) -> None:
    (tiny_images / "class_0").rename(tiny_images / "=cmd|' C calc'!A0")
    (tiny_images / "class_1").rename(tiny_images / "'-x")
    odd = ("a\rb.png", "a\nb.png", '"quoted", and so on.png', "\x1b[2J.png")
    for number, name in enumerate(odd):
        (tiny_images / "class_2" / f"{number:02}.png").rename(tiny_images / "class_2" / name)
    prepare.main()
    files = {path.relative_to(tiny_images).as_posix() for path in tiny_images.rglob("*.png")}
    rows = records.read_csv(paths.MANIFEST)
    assert {row["path"] for row in rows} == files
    assert all(row["path"].startswith(f"{row['label']}/") for row in rows)
    assert {path for split in manifest.read("data/raw", *paths.SPLITS) for path in split.names} == files
    with (project / paths.MANIFEST).open(encoding="utf-8", newline="") as file:
        assert not [cell for row in csv.reader(file) for cell in row if cell.startswith(("=", "-", "+", "@"))]
