"""The script of the report runs in a browser: what it adds is there, and its faults would not be."""

import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.evaluation import evaluated
from tests.serving import browser
from thaw import paths
from thaw.evaluation import report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason="needs Chromium")]


@contextmanager
def opened(classes: Sequence[str]) -> Iterator[browser.Tab]:
    """Write the report of some classes into the current folder, and yield a tab that shows it."""
    evaluated.write(list(classes))
    evaluated.write_figures()
    report.write()
    with browser.tab() as tab:
        tab.call("Page.navigate", url=paths.REPORT.resolve().as_uri())
        tab.until("document.readyState === 'complete'")
        yield tab


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


ROWS = """[...document.querySelectorAll("#class-table tbody tr:not([hidden])")]
    .map((row) => [row.cells[0].textContent, row.cells[7].dataset.value])"""


def test_a_click_sorts_words_search_and_the_keyboard_reaches_all_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with opened([f"class {n:02}" for n in range(30)]) as tab:
        scores = [float(score) for _, score in tab.value(ROWS)]
        assert len(scores) == 30 and scores == sorted(scores) != sorted(scores, reverse=True)
        tab.click("#class-table thead th:last-child button")
        assert [float(score) for _, score in tab.value(ROWS)] == sorted(scores, reverse=True)
        assert tab.value("document.querySelector('#class-table th:last-child').ariaSort") == "descending"
        tab.click("#class-table thead th:first-child button")
        assert [name for name, _ in tab.value(ROWS)] == [f"class {n:02}" for n in range(30)]

        tab.click("input[data-table=class-table]")
        tab.call("Input.insertText", text="CLASS 2")  # both words, anywhere in a name
        assert [name for name, _ in tab.value(ROWS)] == [
            "class 02",
            "class 12",
            *(f"class {n}" for n in range(20, 30)),
        ]
        assert tab.value("document.getElementById('class-told').textContent") == "12 of 30"

        # By Tab from the search box: the table, which scrolls, and the heads, which sort.
        told = []
        for _ in range(3):
            tab.press("Tab", 9)
            told.append(tab.value("document.activeElement.ariaLabel ?? document.activeElement.textContent.trim()"))
        assert told == ["Classes", "Class", "Train"]
        assert tab.value("getComputedStyle(document.activeElement).outlineStyle") != "none"
        tab.press("Enter", 13, "\r")
        assert tab.value("document.activeElement.closest('th').ariaSort") == "descending"
        assert not tab.complaints() and tab.requested() == [paths.REPORT.resolve().as_uri()]


def test_tab_comes_by_everything_that_can_be_used_in_the_order_of_the_page_and_shows_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with opened(["ant", "bee", "cow"]) as tab:
        order = """(() => {
          window.all = [...document.querySelectorAll("a[href], button, input, summary, [tabindex='0']")];
          window.all = all.filter((each) => each.checkVisibility());
          return all.length;
        })()"""
        places, unmarked = list[int](), list[str]()
        for _ in range(tab.value(order)):
            tab.press("Tab", 9)
            place, marked, text = tab.value(
                "[all.indexOf(document.activeElement), getComputedStyle(document.activeElement).outlineStyle, "
                "document.activeElement.outerHTML.slice(0, 80)]"
            )
            places.append(place)
            unmarked += [text] if marked == "none" else []
        assert places == list(range(len(places))) and len(places) > 40
        assert unmarked == []


def test_names_beside_the_picture_of_a_matrix_lie_outside_of_its_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with opened([f"a_rather_long_name_of_a_class_{n}" for n in range(40)]) as tab:
        inside = tab.value(
            """(() => {
              const matrix = document.querySelector(".matrix");
              const plate = matrix.querySelector(".plate").getBoundingClientRect();
              const boxes = [...matrix.querySelectorAll("text")].map((text) => text.getBoundingClientRect());
              const over = boxes.filter((box) => box.right > plate.left + 1 && box.bottom > plate.top + 1);
              return [boxes.length, over.length];
            })()"""
        )
        assert inside == [80, 0]
        tab.call("Emulation.setDeviceMetricsOverride", width=390, height=600, deviceScaleFactor=1, mobile=True)
        before, after, end = tab.value(
            """(() => {
              const matrix = document.querySelector(".matrix"), frame = matrix.parentElement;
              const place = (part) => matrix.querySelector(part).getBoundingClientRect();
              const places = () => [place(".rows").left, place(".columns").top].map(Math.round);
              frame.scrollIntoView();
              const before = places();
              frame.scrollTo(9999, 9999);
              const cells = place(".plates"), box = frame.getBoundingClientRect();
              return [before, places(), [cells.right <= box.right + 1, cells.bottom <= box.bottom + 1]];
            })()"""
        )
        assert before == after and end == [True, True], "names stay where cells scroll, to the last one"
        for width in (1280, 390):
            tab.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=True)
            assert tab.value("document.scrollingElement.scrollWidth") <= width
            assert tab.value("document.querySelector('#class-table td').getBoundingClientRect().right") < width / 2
        tab.call("Emulation.setDeviceMetricsOverride", width=1280, height=900, deviceScaleFactor=1, mobile=False)
        for table in ("#class-table", "#confusion table[data-sort]"):  # as wide as the page, or it would scroll
            frame = f"document.querySelector({table!r}).closest('.scroll')"
            assert tab.value(f"{frame}.scrollWidth <= {frame}.clientWidth")
        assert not tab.complaints()
