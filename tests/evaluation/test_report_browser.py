"""The script of the report runs in a browser: what it adds is there, and its faults would not be."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.evaluation import evaluated
from tests.serving import browser
from thaw import paths
from thaw.evaluation import report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason="needs Chromium")]


def test_tables_can_be_sorted_and_searched_and_a_link_unfolds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    evaluated.write([f"<b>{n}</b>" for n in range(30)])
    evaluated.write_figures()
    report.write()
    words = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    address = f"{paths.REPORT.resolve().as_uri()}#rows-phase2"
    done = subprocess.run([*words, "--dump-dom", address], capture_output=True, text=True, check=True, timeout=120)
    shown = re.sub(r"\s+", " ", done.stdout)
    heads = re.findall(r"<table id=\"class-table\".*?</thead>", shown)[0]
    assert heads.count('<button type="button"') == 8
    assert "data-control" in shown and not re.search(r"data-control=\"\" hidden", shown)
    folded = shown.split("<summary>The matrix as a table</summary>")[0].rsplit("<details", 1)[1]
    assert folded.startswith(' open=""')  # by the address


def test_names_beside_the_picture_of_a_matrix_lie_outside_of_its_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    evaluated.write([f"a rather long name {n}" for n in range(40)])
    evaluated.write_figures()
    report.write()
    with browser.tab() as tab:
        tab.call("Page.navigate", url=paths.REPORT.resolve().as_uri())
        tab.until("document.readyState === 'complete'")
        inside = tab.value(
            """(() => {
              const svg = document.querySelector("svg.matrix");
              const plate = svg.querySelector(".plate").getBoundingClientRect();
              const boxes = [...svg.querySelectorAll("text")].map((text) => text.getBoundingClientRect());
              const over = boxes.filter((box) => box.right > plate.left + 1 && box.bottom > plate.top + 1);
              return [boxes.length, over.length];
            })()"""
        )
        assert inside == [80, 0]
        for width in (1280, 390):
            tab.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=True)
            assert tab.value("document.scrollingElement.scrollWidth") <= width
        assert not tab.complaints()
