"""The page holds what prepare and phase 1 found, needs nothing but itself, and is the same bytes each time."""

import html
import re
import shutil
from pathlib import Path

import pytest
import yaml
from PIL import Image

from stages import prepare
from thaw import paths, records
from thaw.evaluation import data_report, label_errors

ROOT = Path(__file__).resolve().parents[2]
NASTY = "<b>owl & co"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_images: Path) -> Path:
    """Three classes prepared, with a copy, a conflict, a broken file and a suspect."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["tracking"]["enabled"] = False
    params["data"]["raw"] = "data/raw"
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    (tiny_images / "class_2").rename(tiny_images / NASTY)
    Image.open(tiny_images / "class_0" / "00.png").save(tiny_images / "class_0" / "copy.jpg", quality=90)
    shutil.copy(tiny_images / "class_0" / "01.png", tiny_images / "class_1" / "conflict.png")
    (tiny_images / "class_1" / "broken.png").write_bytes(b"no picture")
    prepare.main()
    values = ("class_0/02.png", "train", "class_0", NASTY, 0.0213, 0.9)
    rows = [dict(zip(label_errors.COLUMNS, values, strict=True)) | {"path": f"class_0/0{n}.png"} for n in (2, 3, 4)]
    records.write_csv(paths.SUSPECTS, label_errors.COLUMNS, rows)
    return tmp_path


def page(shown: int = 2) -> str:
    data_report.write("data/raw", ["class_0", "class_1", NASTY], shown)
    return paths.DATA_REPORT.read_text(encoding="utf-8")


@pytest.mark.usefixtures("project")
def test_the_page_shows_what_was_found() -> None:
    text = page()
    assert "class_1/broken.png" in text
    assert re.search(r"<b>class_0, class_1</b> <span class=\"soft\">· train · same bytes", text)
    assert re.search(r"<b>class_0</b> <span class=\"soft\">· \w+ · alike", text)
    assert "class_0/02.png · train" in text
    assert "class_0/03.png · train" in text
    assert "class_0/04.png · train" not in text
    assert "2\nmost suspect of 3" in text
    assert "2.1 %" in text
    counts = {row["class"]: row for row in records.read_json(paths.metrics("prepare"))["per_class"]}
    cells = "".join(f"<td>{counts['class_0'][split]}</td>" for split in paths.SPLITS)
    assert f"<tr><th>class_0</th>{cells}" in text


@pytest.mark.usefixtures("project")
def test_of_very_many_classes_those_with_the_fewest_images_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = {row["class"]: row for row in records.read_json(paths.metrics("prepare"))["per_class"]}
    fewest = min(counts, key=lambda name: sum(counts[name][split] for split in paths.SPLITS))
    monkeypatch.setattr(data_report, "CLASS_ROWS", 1)
    table = page().split("<tbody>")[1].split("</tbody>")[0]
    assert table.count("<tr>") == 1 and f"<tr><th>{html.escape(fewest)}</th>" in table


@pytest.mark.usefixtures("project")
def test_the_page_needs_nothing_but_itself_and_names_are_text() -> None:
    text = page()
    assert NASTY not in text
    assert "&lt;b&gt;owl &amp; co" in text
    sources = re.findall(r"src=\"([^\"]{0,30})", text)
    assert sources
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert re.findall(r"href=\"([^\"]+)", text) == ["report.html"]
    assert "://" not in text


@pytest.mark.usefixtures("project")
def test_who_does_not_see_the_page_finds_its_parts() -> None:
    text = page()
    assert text.count("<main>") == text.count("</main>") == 1
    scrolling = re.findall(r'<div class="scroll"[^>]*>', text)
    assert scrolling and all('tabindex="0"' in each and "aria-label=" in each for each in scrolling)
    assert not re.search(r"<th[^>]*></th>", text)


@pytest.mark.usefixtures("project")
def test_the_same_input_gives_the_same_bytes() -> None:
    assert page() == page()


def test_an_image_that_went_or_was_exchanged_is_a_grey_square(project: Path) -> None:
    path = project / "data" / "raw" / "class_0" / "02.png"
    sha256 = records.sha256(path)
    path.write_bytes(path.with_name("03.png").read_bytes())
    thumbnails = data_report.Thumbnails(project / "data" / "raw", {}, {"class_0/02.png": sha256})
    assert thumbnails.pixels("class_0/02.png").getpixel((0, 0)) == (128, 128, 128)
    path.unlink()
    assert thumbnails.pixels("class_0/02.png").getpixel((0, 0)) == (128, 128, 128)
    assert page().count("<img") == 9


def test_a_thumbnail_keeps_the_shape_and_a_sheet_holds_them_in_a_row(project: Path) -> None:
    hashes = {}
    for name, size in (("wide.png", (400, 100)), ("tall.png", (30, 90)), ("line.png", (900, 1))):
        Image.new("RGB", size, "red").save(project / "data" / "raw" / name)
        hashes[name] = records.sha256(project / "data" / "raw" / name)
    thumbnails = data_report.Thumbnails(project / "data" / "raw", {}, hashes)
    sizes = [thumbnails.pixels(name).size for name in ("wide.png", "tall.png", "line.png")]
    assert sizes == [(176, 44), (29, 88), (176, 1)]
    assert thumbnails.sheet(["wide.png", "tall.png"]).startswith("data:image/jpeg;base64,")


@pytest.mark.usefixtures("project")
def test_leaks_of_ready_made_splits_are_shown_as_pairs() -> None:
    row = {"split": "test", "path": "class_0/00.png", "kind": "alike"}
    row |= {"other_split": "train", "other_path": "class_0/copy.jpg"}
    records.write_csv(paths.LEAKS, list(row), [row])
    assert re.search(r"<b>test</b> .*class_0/00.png.*<b>train</b> .*class_0/copy.jpg.*\n.*alike", page())
