"""The server's page in a browser: what is dropped, chosen and pressed, and what is read there."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.serving import browser
from tests.serving.browser import DONE, READ, needs_browser
from tests.serving.conftest import ROOT, Running, serving

# Keeps the text of the CSV that would be saved, since a headless browser has nobody to ask where to.
CATCH_CSV = (
    "URL.createObjectURL = (blob) => { blob.text().then((text) => { window.saved = text; }); return 'data:,'; }"
)


@pytest.fixture
def images(tmp_path: Path, red: bytes, green: bytes) -> list[Path]:
    """A red, a green and a broken image."""
    for name, data in (("r.jpg", red), ("grün, =1.png", green), ("half.jpg", red[:300])):
        (tmp_path / name).write_bytes(data)
    return [tmp_path / name for name in ("r.jpg", "grün, =1.png", "half.jpg")]


def predicted(model: Path, images: list[Path], form: str) -> str:
    words = [sys.executable, "-m", "thaw.commands.cli", "predict", "--model", str(model), form, *map(str, images)]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, encoding="utf-8").stdout


@needs_browser
def test_what_is_dropped_is_answered_as_thaw_predict_does(
    tab: browser.Tab, server: Running, tiny_export: Path, images: list[Path]
) -> None:
    told = json.loads(predicted(tiny_export, images, "--json"))
    tab.events.clear()
    tab.open(f"http://127.0.0.1:{server.port}/")
    tab.drop(images)
    tab.until(f"{DONE} && document.querySelectorAll('#list > li').length === 3")
    broken, *shown = tab.value(READ)
    assert broken["error"].startswith("expected an image, received one of kind truncated")
    for entry, expected in zip(shown, reversed(told[:2]), strict=True):
        assert (entry["name"], entry["label"]) == (Path(expected["path"]).name, expected["label"])
        assert entry["share"] == f"{expected['probability']:.1%}".replace("%", " %")
        likeliest = sorted(expected["probabilities"].items(), key=lambda item: -item[1])
        assert entry["bars"] == [[name, f"{share:.1%}".replace("%", " %")] for name, share in likeliest]

    tab.value(CATCH_CSV)
    tab.value("document.getElementById('export').click()")
    tab.until("window.saved")
    saved = list(csv.DictReader(io.StringIO(tab.value("window.saved"))))
    expected_rows = list(csv.DictReader(io.StringIO(predicted(tiny_export, images, "--csv"))))
    assert [Path(row.pop("path")).name for row in expected_rows] == [row.pop("path") for row in saved]
    assert expected_rows[2].pop("error") and saved[2].pop("error")
    for row, other in zip(saved, expected_rows, strict=True):
        assert row.keys() == other.keys() and row["label"] == other["label"]
        for name in row.keys() - {"label", "error"}:  # digits are cut off otherwise: 1e-05 and 0.00001
            assert (row[name] and float(row[name])) == (other[name] and float(other[name]))

    tab.value("document.getElementById('clear').click()")
    assert tab.value(READ) == [] and tab.value("document.getElementById('export').disabled")
    asked = {address.rpartition("/")[2] for address in tab.requested()}
    assert asked == {"", "predict"}
    assert [said for said in tab.complaints() if "422" not in said] == []  # the browser notes the status


@needs_browser
def test_it_says_what_is_unlike_the_training_images(
    tab: browser.Tab, scored_export: Path, images: list[Path], tmp_path: Path, blue: bytes
) -> None:
    (tmp_path / "blue.png").write_bytes(blue)
    with serving(scored_export) as running:
        tab.open(f"http://127.0.0.1:{running.port}/")
        tab.choose([images[0], tmp_path / "blue.png"])
        tab.until(f"{DONE} && document.querySelectorAll('#list > li').length === 2")
        remarks = "[...document.querySelectorAll('#list .unfamiliar')].map((said) => said.textContent)"
        assert tab.value(remarks) == ["unlike the training images"]
        tab.value(CATCH_CSV)
        tab.value("document.getElementById('export').click()")
        tab.until("window.saved")
        red, other = csv.DictReader(io.StringIO(tab.value("window.saved")))
        assert float(red["unfamiliarity"]) < 1 < float(other["unfamiliarity"])


@needs_browser
def test_it_is_used_by_keyboard_and_read_aloud(tab: browser.Tab, server: Running, images: list[Path]) -> None:
    tab.open(f"http://127.0.0.1:{server.port}/")
    reached = []
    for _ in range(2):
        tab.press("Tab", 9)
        reached.append(tab.value("document.activeElement.id"))
    assert reached[0] == "files"
    tab.choose(images[:1])
    tab.until(f"{DONE} && document.querySelectorAll('#list > li').length === 1")
    assert tab.value("document.getElementById('said').textContent") == "r.jpg: red, 99.8 %"
    tab.value("document.getElementById('files').focus()")
    for name in ("export", "clear"):
        tab.press("Tab", 9)
        assert tab.value("document.activeElement.id") == name
    tab.press("Enter", 13, "\r")
    assert tab.value(READ) == [] and tab.value("document.activeElement.id") == "files"
    nodes = tab.call("Accessibility.getFullAXTree")["nodes"]
    named = {(each["role"]["value"], each.get("name", {}).get("value", "")) for each in nodes}
    assert {("button", "Export CSV"), ("button", "Clear the list"), ("heading", "Answers")} <= named
    chooser = [name for role, name in named if "Choose images" in name and role == "button"]
    assert chooser  # the input itself, by its label


@needs_browser
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark")])
def test_nothing_reaches_beyond_a_page_of_any_width(
    tab: browser.Tab, server: Running, tmp_path: Path, red: bytes, width: int, scheme: str
) -> None:
    named = tmp_path / f"{'a-very-long-name-' * 12}.jpg"
    named.write_bytes(red)
    tab.open(f"http://127.0.0.1:{server.port}/")
    tab.choose([named])
    tab.until(f"{DONE} && document.querySelectorAll('#list > li').length === 1")
    tab.picture(tmp_path / "page.png", width, 800, scheme)
    assert tab.value("document.documentElement.scrollWidth") <= width
    share = "document.querySelector('.bars li > span:last-child')"
    line = tab.value(f"{share}.offsetHeight")
    assert tab.value(f"{share}.textContent = '100.0 %', {share}.offsetHeight") == line, "it stays on its line"
    corner = np.asarray(Image.open(tmp_path / "page.png").convert("L"))[2, 2]
    assert corner > 200 if scheme == "light" else corner < 60
