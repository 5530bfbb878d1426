"""The page needs nothing but itself, is the same bytes each time, and can be read, heard and printed."""

import re
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.evaluation import evaluated
from thaw import paths, records
from thaw.catalog import export_formats
from thaw.commands import cli
from thaw.evaluation import label_errors, report

NASTY = [
    "<script>alert(1)</script>",
    "quote \" & $x^{2}$ ' onmouseover=alert(1)",
    "{{ 7*7 }} 写真",
    "</title><img src=x onerror=alert(1)>",
]
LARGEST = 3_000_000  # bytes of a page of 1,000 classes


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def page(classes: list[str], *, figures: bool = False, **changes: Any) -> str:
    evaluated.write(classes, **changes)
    if figures:
        evaluated.write_figures()
    report.write()
    return paths.REPORT.read_text(encoding="utf-8")


def section(text: str, name: str) -> str:
    return re.sub(r"\s+", " ", text.split(f'<section id="{name}"')[1].split("</section>", maxsplit=1)[0])


class Page(HTMLParser):
    """The tags that are open at the end, all tags with their attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the tag."""
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "input", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag of a drawing that has no end."""
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        """Close the tag that was opened last, or fail."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Keep the text, unescaped."""
        self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """Return the attributes of all tags of a name."""
        return [attributes for name, attributes in self.tags if name == tag]


def test_the_page_is_whole_self_contained_and_escapes_every_name(tmp_path: Path) -> None:
    text = page(NASTY, figures=True)
    found = Page(text)
    assert found.open == []
    assert len(found.all("script")) == 1
    handlers = [name for _, attributes in found.tags for name in attributes if name.startswith("on")]
    assert handlers == []
    assert all((image["src"] or "").startswith("data:image/jpeg;base64,") for image in found.all("img"))
    beyond = {link["href"] for link in found.all("a") if not (link["href"] or "").startswith("#")}
    assert beyond == {"data.html"}  # beside it, and only where a person clicks
    assert not [tag for tag in ("link", "iframe", "object", "embed", "base", "form") if found.all(tag)]
    assert "://" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "url(" not in text and "@import" not in text
    for name in NASTY:
        assert sum(name in part for part in found.text) >= 4  # of classes, of the confusion, of mistakes and hits
    assert str(tmp_path) not in text and "49 写真" not in text


def test_no_other_script_can_run_and_nothing_can_be_fetched() -> None:
    found = Page(page(["a", "b"]))
    (policy,) = (each["content"] for each in found.all("meta") if "http-equiv" in each)
    assert policy and policy.startswith("default-src 'none'; img-src data:;")
    assert re.search(r"script-src 'sha256-[\w+/]{43}='$", policy)


def test_the_same_records_give_the_same_bytes() -> None:
    first = page(["ant", "bee", "cow"], figures=True)
    assert page(["ant", "bee", "cow"], figures=True) == first


def test_a_section_is_there_where_its_data_is_and_the_contents_name_it() -> None:
    always = ["verdict", "metrics", "training", "classes", "confusion", "mistakes", "map", "data", "reproduce"]
    figures = ["baselines", "calibration", "robustness", "slices"]
    for told, wanted in ((False, always), (True, always + figures)):
        text = page(["ant", "bee"], figures=told)
        ids = re.findall(r'<section id="(\w+)"', text)
        assert sorted(ids) == sorted(wanted)
        assert re.findall(r'<li><a href="#(\w+)">', text) == ids
        assert ids[0] == "verdict"
    for path in (paths.PICTURES, paths.EMBEDDING_MAP):
        path.unlink()
    report.write()
    assert not {"mistakes", "map"} & set(re.findall(r'<section id="(\w+)"', paths.REPORT.read_text("utf-8")))


def test_who_does_not_see_the_page_is_told_what_is_in_it() -> None:
    text = page([f"c{n}" for n in range(30)], figures=True)
    found = Page(text)
    assert len(found.all("main")) == len(found.all("h1")) == 1
    assert found.all("html")[0]["lang"] == "en"
    assert all(image.get("alt") for image in found.all("img"))
    hidden = [each for each in found.all("svg") if each.get("aria-hidden")]
    assert {each["class"] for each in hidden} == {"columns", "rows", "plates"}, "parts of the matrix, which is told of"
    drawn = [attributes for _, attributes in found.tags if attributes.get("role") == "img"]
    assert len(drawn) >= 8 and all(each["aria-label"] for each in drawn)
    assert len(drawn) + len(hidden) == len(found.all("svg")) + len(hidden) // 3
    assert all(each.get("scope") in ("row", "col") for each in found.all("th"))
    assert len(found.all("caption")) == len(found.all("table"))
    ids = Counter(attributes["id"] for _, attributes in found.tags if attributes.get("id"))
    assert max(ids.values()) == 1
    assert {(link["href"] or "")[1:] for link in found.all("a") if (link["href"] or "").startswith("#")} <= set(ids)
    levels = [int(tag[1]) for tag, _ in found.tags if re.fullmatch(r"h\d", tag)]
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_the_verdict_comes_first_with_the_baselines_it_is_compared_with() -> None:
    text = page(["ant", "bee"], figures=True, warnings=["leaks: 2 of <9>"])
    verdict = section(text, "verdict")
    assert "Fine-tuning helped &lt;by&gt; ten points. Ship phase 2." in verdict
    assert '<p class="warning">Leaks: 2 of &lt;9&gt;.</p>' in verdict and "5.2 points" in verdict
    assert text.index("Fine-tuning helped") < text.index("<table")
    rows = re.findall(r"<tr><th scope=\"row\">([^<]+) <small", section(text, "baselines"))
    assert rows == ["Majority class", "Nearest neighbours", "Logistic regression", "Phase 1", "Phase 2"]


def test_units_and_intervals_are_told() -> None:
    text = page(["ant", "bee"])
    assert "each independent of the others" in text and "Intervals are 95 % intervals." in " ".join(text.split())
    assert len(re.findall(r"accuracy, [\d.]+ % to [\d.]+ %", text)) == 2
    text = page(["ant", "bee"], units=4)
    assert "24 test images, which are 6 independent units" in text and "exact test that turns whole units" in text


def test_the_weakest_class_comes_first_and_one_that_was_not_tested_last_without_figures() -> None:
    text = section(page([f"c{n}" for n in range(6)], right=(0.5, 0.7), untested=2), "classes")
    rows = re.findall(r"<tr><th scope=\"row\">(c\d)</th><td>100</td><td>7</td><td>(\d+)</td>", text)
    assert [images for _, images in rows] == ["12"] * 4 + ["0"] * 2
    assert [name for name, _ in rows[4:]] == ["c4", "c5"]
    figures = [float(value) for value in re.findall(r'<td class="wide" data-value="([\d.]+)"', text)]
    assert figures == sorted(figures) and len(figures) == 4
    assert text.count(">–<") == 2 * 4


@pytest.mark.parametrize(
    ("count", "table", "picture"),
    [(2, True, False), (24, True, False), (25, False, True), (150, False, True), (151, False, False)],
)
def test_the_confusion_is_a_table_a_picture_or_pairs(count: int, table: bool, picture: bool) -> None:
    text = section(page([f"c{n}" for n in range(count)], right=(0.5, 0.5)), "confusion")
    assert ('<table class="cells">' in text, '<div class="matrix"' in text) == (table, picture)
    assert "The pairs of classes most confused" in text
    assert ("The matrix as a table" in text) is not table


def test_a_thousand_classes_fit_three_megabytes() -> None:
    text = page([f"a class with quite a long name, number {n}" for n in range(1000)], per_class=2, figures=True)
    assert len(text.encode()) < LARGEST
    assert text.count('<tr><th scope="row">a class with quite a long name') >= 2000  # in both tables of classes


KEPT = {"best_epoch": 0, "val_loss_change": 0.0512, "val_loss_low": 0.0104, "val_loss_high": 0.092}


def test_of_very_many_classes_the_worst_are_shown_and_the_file_of_all_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = [f"class {number:02}" for number in range(30)]
    whole = page(names)
    assert section(whole, "classes").count('<th scope="row">') == 30 and "per_class.csv" not in whole
    worst = re.findall(r'<th scope="row">(class \d\d)', section(whole, "classes"))
    monkeypatch.setattr(report, "CLASS_ROWS", 4)
    text = page(names)
    shown = section(text, "classes")
    assert re.findall(r'<th scope="row">(class \d\d)', shown) == worst[:4]
    assert "4 of 30 classes" in shown and "metrics/per_class.csv" in shown
    rows = section(text, "confusion").split('id="rows-phase2"')[1].split("</table>")[0]
    assert rows.count('<tr><th scope="row">') == 4


def test_a_baseline_that_was_left_out_is_named_with_the_reason() -> None:
    evaluated.write(["a", "b"])
    evaluated.write_figures()
    verdict = records.read_json(paths.VERDICT)
    records.write_json(paths.VERDICT, verdict | {"left_out": {"logistic_regression": "too <large>"}})
    report.write()
    shown = section(paths.REPORT.read_text(encoding="utf-8"), "baselines")
    assert "Logistic regression is left out: too &lt;large&gt;" in shown


@pytest.mark.parametrize(("best", "told"), [(3, "best in epoch 3 of 8"), (0, "no epoch better than its start")])
def test_the_row_of_training_from_scratch_says_which_epoch_was_best(best: int, told: str) -> None:
    evaluated.write(["a", "b"])
    evaluated.write_figures()
    verdict = records.read_json(paths.VERDICT)
    scratch = verdict["baselines"]["knn"] | {"best_epoch": best, "epochs": 8, "images_to_best": best * 100}
    records.write_json(paths.VERDICT, verdict | {"baselines": verdict["baselines"] | {"scratch": scratch}})
    report.write()
    rows = section(paths.REPORT.read_text(encoding="utf-8"), "baselines").split("<tr>")[2:]
    assert len(rows) == 6
    assert [told in row for row in rows] == ["From scratch" in row for row in rows]


def test_calibration_error_log_loss_brier_score_and_reliability_are_told_before_and_after() -> None:
    text = section(page(["a", "b"], figures=True), "calibration")
    assert re.findall(r"<caption>(Reliability \w+)", text) == ["Reliability before", "Reliability after"]
    rows = re.findall(
        r"<tr><th scope=\"row\">(Calibration error|Log loss|Brier score).*?</th><td>(.*?)</td><td>(.*?)</td></tr>",
        text,
    )
    assert rows == [
        ("Calibration error", "8.0 %", "2.0 %"),
        ("Log loss", "0.5000", "0.4000"),
        ("Brier score", "0.3100", "0.2700"),
    ]


def test_the_page_says_at_each_place_that_phase_2_was_not_kept() -> None:
    text = page(["ant", "bee"], trained=KEPT | {"ended_too_early": True, "advice": "set phase2.epochs above 3"})
    told = "the best of its 3 epochs is higher than its start&#39;s by 0.051 (0.010 to 0.092), on the same images"
    assert told in section(text, "verdict") and told in section(text, "training")
    assert "McNemar" not in text and "the same model as phase 1&#39;s" in text
    assert "All blocks are bit-identical" in text and "Confusion matrix of Phase 1" not in text
    assert text.count("Phase 2 ended too early: set phase2.epochs above 3.") == 1
    assert "Phase 2 has not helped yet: " in section(text, "verdict") and "did not help" not in text
    text = page(["ant", "bee"])
    assert told not in text and "McNemar" in text


@pytest.mark.parametrize(("mixup", "told"), [(0.2, True), (0.0, False)])
def test_the_page_says_if_the_training_curve_is_of_mixed_images(mixup: float, told: bool) -> None:
    assert ("mixtures of two images" in page(["ant", "bee"], params={"phase2": {"mixup": mixup}})) is told


def test_slices_map_and_title_are_those_of_the_model_to_ship_and_say_so() -> None:
    for ship, name in (("phase1", "phase 1"), ("phase2", "phase 2")):
        evaluated.write(["ant", "bee", "cow"])
        evaluated.write_figures()
        records.write_json(paths.VERDICT, records.read_json(paths.VERDICT) | {"ship": ship})
        report.write()
        html = paths.REPORT.read_text("utf-8")
        for part in ("slices", "map"):
            assert f"he model to ship, {name}" in section(html, part)
        answers = records.read_csv(paths.predictions(ship))
        wrong = sum(row["label"] != row["predicted"] for row in answers)
        assert section(html, "map").count(", answered ") == wrong > 0
        accuracy = records.read_json(paths.metrics("evaluate"))[ship]["accuracy"]
        assert f"<title>Test report: {100 * accuracy:.1f}" in html


@pytest.mark.parametrize(("suspects", "told"), [(1, False), (3, True)])
def test_where_many_labels_look_wrong_the_page_says_that_the_model_may_be(suspects: int, told: bool) -> None:
    page(["ant", "bee", "cow"], figures=True)
    rows = [dict.fromkeys(label_errors.COLUMNS, f"{number}") for number in range(suspects)]
    records.write_csv(paths.SUSPECTS, label_errors.COLUMNS, rows)
    report.write()
    text = section(paths.REPORT.read_text("utf-8"), "mistakes")
    assert f"{suspects} labels of training and validation images look wrong" in text
    assert ("These are 30 % of them. So many labels are seldom wrong" in text) is told


def test_mistakes_have_picture_heat_map_labels_and_path_and_suspects_are_linked() -> None:
    text = section(page(["ant", "bee"], right=(0.5, 0.6)), "mistakes")
    wrong = records.read_csv(paths.MISTAKES)
    tiles = text.split('<li class="tile odd"')[1:]
    assert len(tiles) == min(24, len(wrong)) > 3
    for row, tile in zip(wrong, tiles, strict=False):
        assert tile.count("<img") >= 2 and f'alt="Grad-CAM for {row["predicted"]}"' in tile
        assert f"Labelled <b>{row['label']}</b>" in tile and row["path"] in tile and row["twin"] in tile
        assert 'href="#suspects"' in tile
    assert 'href="#mistake-1"' in text.split('id="suspects"')[1]


def test_all_mistakes_are_called_all_and_of_more_the_surest() -> None:
    html = section(page(["ant", "bee"]), "mistakes")
    count = len(records.read_csv(paths.MISTAKES))
    assert 1 < count <= 24 and f"All {count} wrong answers of phase 2" in html and "mistakes.csv" not in html
    rows = records.read_csv(paths.MISTAKES)
    records.write_csv(paths.MISTAKES, list(rows[0]), rows * 3)
    report.write()
    html = section(paths.REPORT.read_text("utf-8"), "mistakes")
    assert f"The {count} surest of {3 * count} wrong answers" in html and "mistakes.csv" in html


def test_a_threshold_that_all_answers_pass_and_slices_beyond_those_shown_are_told() -> None:
    html = page(["ant", "bee"], figures=True)
    assert "without a threshold" not in html and "These are the first" not in html
    calibration = records.read_json(paths.CALIBRATION)
    calibration["wanted_precision"] |= {"coverage": 1.0, "threshold": 0.0}
    records.write_json(paths.CALIBRATION, calibration)
    rows = records.read_csv(paths.SLICES)
    more = [rows[0] | {"value": str(number)} for number in range(report.MOST_ROWS + 5)]
    records.write_csv(paths.SLICES, list(rows[0]), more)
    report.write()
    html = paths.REPORT.read_text("utf-8")
    assert "without a threshold" in section(html, "calibration")
    assert f"the first {report.MOST_ROWS} of {report.MOST_ROWS + 5}" in section(html, "slices")


def test_the_exact_configuration_versions_and_hashes_reproduce_it() -> None:
    text = section(page(["ant", "bee"]), "reproduce")
    for key, value in (("backbone.name", "tiny&lt;net&gt;"), ("head.units", "[64, 32]")):
        assert f"<code>{key}</code></th><td><code>{value}</code></td>" in text
    assert "with the images at <code>images</code>" in text
    assert "python -m thaw.config +experiment=reported" in text and "# @package _global_" in text
    assert "keras</th><td>3.15.1" in text and "Phase 2: threads</th><td>2" in text and "ab" * 32 in text
    assert records.read_json(paths.metrics("evaluate"))["made_from"][0]["sha256"] in text


def test_the_blocks_of_the_backbone_are_shown_with_what_was_trained() -> None:
    text = section(page(["ant", "bee"]), "training")
    assert '<th scope="row">stem</th><td>4</td><td>992</td> <td>frozen</td><td>25.0 %</td>' in text
    assert '<th scope="row">top&lt;1&gt;</th><td>3</td><td>414,720</td> <td>409,600</td><td>75.0 %</td>' in text
    assert '<th scope="row">All</th><td>7</td><td>415,712</td> <td>409,600</td><td>100.0 %</td>' in text


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> list[str]:
    """Call ``thaw report``; the addresses that it opens."""
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setattr(sys, "argv", ["thaw", "report", *words])
    cli.main()
    return opened


def cells(html: str) -> list[list[str]]:
    """The texts of the rows of a section's tables, without tags."""
    rows = re.findall(r"<tr>(<th scope=\"row\".*?)</tr>", html, re.DOTALL)
    return [[re.sub(r"<.*?>", "", cell) for cell in re.findall(r"<t[hd].*?</t[hd]>", row, re.DOTALL)] for row in rows]


def test_the_command_adds_what_was_exported_and_opens_the_page(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    page(["ant", "bee"])
    change = {"accuracy_change": -0.012, "accuracy_change_low": -0.031, "accuracy_change_high": 0.004}
    ways: dict[str, dict[str, float]] = {
        "saved_model": {"largest_difference": 1.5e-7},
        "saved_model_images": {"largest_difference": 3e-6},
        "litert": {"largest_difference": 1e-6},
        "litert_int8": {"largest_difference": 0.2, "agreement": 0.975, **change},
    }
    made_from = records.made_from([paths.probabilities("phase2")])
    records.write_json(paths.metrics("export"), {"compared_images": 24, "formats": ways, "made_from": made_from})
    records.write_bytes(paths.EXPORTED / "saved_model" / "variables" / "<x>", bytes(2_500_000))
    for name in ("litert", "litert_int8"):
        records.write_bytes(paths.EXPORTED / export_formats.FORMATS[name].file, bytes(1_500_000))
    speed = {"p50": 1.234, "p95": 5.678, "throughput": 1234.0, "cold_start": 0.17, "memory": 70e6}
    # Of litert the latency of an earlier export is left, whose file was of another size.
    latencies = {"litert_int8": {"bytes": 1_500_000, **speed}, "litert": {"bytes": 7, **speed, "p50": 99.9}}
    records.write_json(paths.LATENCY, latencies)
    assert run(monkeypatch) == [(tmp_path / report.OUTPUT).as_uri()]
    assert capsys.readouterr().out == f"→ {report.OUTPUT}\n"
    shown = section(report.OUTPUT.read_text("utf-8"), "exports")
    rows = {row[0].split()[0]: row[1:] for row in cells(shown)}
    assert rows["saved_model"] == ["2.5 MB", "probabilities within 3e-06", *["–"] * 5]
    assert rows["litert"] == ["1.5 MB", "probabilities within 1e-06", *["–"] * 5]
    said = "97.5 % of the same answers, accuracy −1.2 points (−3.1 to +0.4)"
    assert rows["litert_int8"] == ["1.5 MB", said, "1.23", "5.68", "1,234", "0.17", "70"]
    assert "onnx" not in rows and "Compared: 24 test images." in shown
    assert "exports" not in re.findall(r'<section id="(\w+)"', paths.REPORT.read_text("utf-8"))
    records.write_array(
        paths.probabilities("phase2"), np.full((24, 2), 0.5, np.float32)
    )  # the export is of another model now
    assert run(monkeypatch, "--no-browser", "--output", "passed on.html") == []
    assert '<section id="exports"' not in Path("passed on.html").read_text("utf-8")


def test_without_an_evaluation_or_with_another_model_one_line_says_what_to_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(SystemExit, match=r"thaw report: .*run `dvc repro` first"):
        run(monkeypatch)
    page(["ant", "bee"])
    (paths.PHASE2 / "model.weights.h5").write_bytes(b"another")
    with pytest.raises(SystemExit, match="found those of others; run `dvc repro`"):
        run(monkeypatch)


def test_rows_that_do_not_fit_the_classes_are_refused() -> None:
    evaluated.write(["a", "b", "c"])
    records.write_json(paths.CLASSES, {"classes": ["a", "b", "c", "d"]})
    with pytest.raises(ValueError, match="a row for each of the 4 classes"):
        report.write()


def test_the_report_needs_neither_tensorflow_nor_matplotlib_nor_scikit_learn() -> None:
    evaluated.write(["a", "b"])
    code = (
        "import sys; from thaw.evaluation import report; report.write(); "
        "print([name for name in ('tensorflow', 'keras', 'matplotlib', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
