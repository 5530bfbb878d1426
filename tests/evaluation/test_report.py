"""The pictures can be read, the page needs nothing but itself, and both are the same bytes each time."""

import html
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from thaw import records
from thaw.evaluation import intervals, metrics, pictures, report
from thaw.evaluation.pictures import confusion_picture

NASTY = ["<script>alert(1)</script>", 'quote " & $x^{2}$', "写真"]


def pixels(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def near(picture: NDArray[np.uint8], colour: str) -> NDArray[np.bool_]:
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    close: NDArray[np.bool_] = np.abs(picture.astype(int) - wanted).max(axis=2) <= 12
    return close


def history(epochs: int, start: float) -> list[dict[str, Any]]:
    return [
        {"epoch": e, "loss": start / e, "accuracy": 1 - 0.5 / e, "val_loss": start / e + 0.1, "val_accuracy": 0.9}
        for e in range(1, epochs + 1)
    ]


def page(
    folder: Path, classes: list[str], gain: float = 0.3, units: NDArray[np.int64] | None = None, **changes: Any
) -> str:
    """A report of two real sets of random answers, the second better by ``gain``."""
    random = np.random.default_rng(0)
    n = len(classes)
    labels = np.arange(60 * n) % n
    predicted = {}
    for phase, share in (("phase1", 0.6), ("phase2", 0.6 + gain)):
        guesses = random.integers(0, n, len(labels))
        predicted[phase] = np.where(np.arange(len(labels)) < share * len(labels), labels, guesses)
    confusions = {phase: metrics.confusion(labels, answer, n) for phase, answer in predicted.items()}
    right = [answer == labels for answer in predicted.values()]
    evaluation: dict[str, Any] = {
        phase: metrics.summary(0.8 * np.eye(n)[answer] + 0.2 / n, labels, [2, 50], 0.95, units)
        for phase, answer in predicted.items()
    }
    evaluation["difference"] = {
        **intervals.difference(right[0], right[1], 0.95),
        **intervals.mcnemar(right[0], right[1]),
    }
    drawn = {phase: folder / f"{phase}.png" for phase in confusions}
    for phase, counts in confusions.items():
        confusion_picture(counts, classes, phase, drawn[phase])
    pictures.curves_picture({"phase1": history(4, 1.0), "phase2": history(3, 0.4)}, folder / "curves.png")
    arguments: dict[str, Any] = {
        "classes": classes,
        "evaluation": evaluation,
        "per_class": {phase: metrics.per_class(labels, answer, n) for phase, answer in predicted.items()},
        "confusion_pictures": drawn,
        "curves": folder / "curves.png",
        "counts": {"train": dict.fromkeys(classes, 100), "val": {classes[0]: 7}, "test": dict.fromkeys(classes, 60)},
        "blocks": [
            {"block": "stem", "layers": "4", "parameters": "992", "trained": "0", "computation": "0.25"},
            {"block": "top<1>", "layers": 3, "parameters": 414720, "trained": 409600, "computation": 0.75},
        ],
        "params": {"backbone": {"name": "tiny<net>"}, "head": {"units": [64, 32]}},
        "confidence": 0.95,
    }
    path = folder / "new" / "report.html"
    report.write_html(path, **{**arguments, **changes})
    return path.read_text(encoding="utf-8")


def test_the_curves_show_train_validation_and_where_phase_2_begins(tmp_path: Path) -> None:
    histories = {"phase1": history(10, 1.0), "phase2": history(10, 0.5)}
    pictures.curves_picture(histories, tmp_path / "both.png")
    pictures.curves_picture({"phase1": history(10, 1.0)}, tmp_path / "one.png")
    both, one = pixels(tmp_path / "both.png"), pixels(tmp_path / "one.png")
    for colour in (pictures.TRAIN, pictures.VALIDATION):
        assert near(both, colour).sum() > 300
    red = [picture[..., 0].astype(int) - picture[..., 2] > 30 for picture in (both, one)]  # only the boundary is
    assert not red[1].any()
    places = np.flatnonzero(red[0].sum(axis=0) > 0.3 * len(both))
    assert len(places) >= 2  # one in each of the two plots
    assert 0.2 < places.min() / both.shape[1] < 0.35
    assert 0.7 < places.max() / both.shape[1] < 0.85


def test_curves_take_missing_values_text_from_csv_and_a_phase_without_epochs(tmp_path: Path) -> None:
    rows = history(5, 1.0)
    columns = ["epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"]
    records.write_csv(tmp_path / "history.csv", columns, rows)
    pictures.curves_picture({"phase1": rows, "phase2": []}, tmp_path / "numbers.png")
    pictures.curves_picture({"phase1": records.read_csv(tmp_path / "history.csv")}, tmp_path / "text.png")
    assert (tmp_path / "numbers.png").read_bytes() == (tmp_path / "text.png").read_bytes()

    without = [{key: value for key, value in row.items() if not key.startswith("val_")} for row in rows]
    blank = [{**row, "val_loss": "", "val_accuracy": None} for row in rows]
    pictures.curves_picture({"phase1": without}, tmp_path / "without.png")
    pictures.curves_picture({"phase1": blank}, tmp_path / "blank.png")
    assert (tmp_path / "without.png").read_bytes() == (tmp_path / "blank.png").read_bytes()
    assert (tmp_path / "without.png").read_bytes() != (tmp_path / "numbers.png").read_bytes()
    pictures.curves_picture({"phase1": [], "phase2": []}, tmp_path / "empty.png")
    assert (tmp_path / "empty.png").exists()


def test_the_same_input_gives_the_same_bytes_whatever_the_settings_of_the_user(tmp_path: Path) -> None:
    one = page(tmp_path / "1", ["ant", "bee", "cow"])
    with matplotlib.rc_context({"font.size": 20, "lines.linewidth": 9, "savefig.dpi": 30, "axes.grid": True}):
        two = page(tmp_path / "2", ["ant", "bee", "cow"])
        assert matplotlib.rcParams["font.size"] == 20
    assert one == two
    with Image.open(tmp_path / "1" / "curves.png") as image:
        assert "Software" not in image.info


def test_the_page_names_the_result_its_interval_and_the_verdict(tmp_path: Path) -> None:
    text = page(tmp_path, ["ant", "bee", "cow"])
    assert "More than noise: phase 2 is better." in text
    assert "Intervals are 95 % intervals." in " ".join(text.split())
    found = re.findall(r"accuracy, ([\d.]+) % to ([\d.]+) %", text)
    assert len(found) == 2
    assert all(float(low) < float(high) for low, high in found)
    assert "Top-2 accuracy" in text
    assert "Top-50 accuracy" not in text  # of three classes
    for key, value in (("backbone.name", "tiny&lt;net&gt;"), ("head.units", "[64, 32]")):
        assert f"<td><code>{key}</code></td><td><code>{value}</code></td>" in text


@pytest.mark.parametrize(
    ("only_a", "only_b", "verdict"),
    [
        (10, 12, "Within noise"),
        (5, 14, "On the edge of noise"),
        (5, 40, "phase 2 is better"),
        (40, 5, "phase 2 is worse"),
    ],
)
def test_the_verdict_follows_the_exact_test(only_a: int, only_b: int, verdict: str) -> None:
    a = np.repeat([True, True, False], [400, only_a, only_b])
    b = np.repeat([True, False, True], [400, only_a, only_b])
    assert verdict in report._verdict({**intervals.difference(a, b, 0.95), **intervals.mcnemar(a, b)}, 0.95)


def test_the_weakest_class_comes_first_and_counts_are_added_up(tmp_path: Path) -> None:
    def rows(*scores: float) -> list[dict[str, Any]]:
        return [{"precision": score, "recall": score, "f1": score, "support": 60} for score in scores]

    text = page(tmp_path, ["ant", "bee", "cow"], per_class={"phase1": rows(0, 0, 0), "phase2": rows(0.9, 0.2, 0.5)})
    table = text[text.index("the weakest first") : text.index("<h2>Images</h2>")]
    assert re.findall(r"<tr><th>(\w+)</th><td>60", table) == ["bee", "cow", "ant"]
    assert re.findall(r"width: ([\d.]+)%", table) == ["20.0", "50.0", "90.0"]
    images = re.sub(r"\s+", "", text[text.index("<h2>Images</h2>") :])
    assert "<th>ant</th><td>100</td><td>7</td><td>60</td><td>167</td>" in images
    assert "<th>bee</th><td>100</td><td>0</td><td>60</td><td>160</td>" in images
    assert "<th>All</th><td>300</td><td>7</td><td>180</td><td>487</td>" in images


class Page(HTMLParser):
    """The tags that are open at the end, the text, and all that the page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.fetched: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the tag and what it would fetch."""
        self.tags.add(tag)
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close the tag that was opened last, or fail."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Keep the text, unescaped."""
        self.text.append(data)


def test_the_page_is_whole_self_contained_and_escapes_every_name(tmp_path: Path) -> None:
    text = page(tmp_path, NASTY)
    parsed = Page()
    parsed.feed(text)
    parsed.close()
    assert parsed.open == []
    assert "script" not in parsed.tags
    link, *images = parsed.fetched
    assert link == "data.html"  # beside it, and only where a person clicks
    assert len(images) == 3
    assert all(source.startswith("data:image/png;base64,") for source in images)
    assert "://" not in text
    assert "url(" not in text
    assert "@import" not in text
    for name in NASTY:
        assert parsed.text.count(name) == 2  # in the table of classes and in that of images
    assert str(tmp_path) not in text


KEPT = "Phase 2 did not help, so its model is phase 1's."


def test_the_page_says_at_each_place_that_phase_2_was_not_kept(tmp_path: Path) -> None:
    parts = re.split("<h2>", html.unescape(page(tmp_path, ["ant", "bee"], gain=0, kept=KEPT)))
    verdict, training, backbone = parts[0], parts[2], parts[3]
    assert f'<p class="verdict">{KEPT}</p>' in verdict and "McNemar" not in verdict and "noise" not in verdict
    assert "the same model as phase 1's" in verdict and "unfrozen" not in verdict
    assert KEPT in training and KEPT in backbone
    text = page(tmp_path, ["ant", "bee"])
    assert KEPT not in text and "McNemar" in text


def test_the_curves_say_that_phase_2_was_not_kept(tmp_path: Path) -> None:
    histories = {"phase1": history(4, 1.0), "phase2": history(3, 0.4)}
    drawn = []
    for kept in ("", KEPT):
        pictures.curves_picture(histories, tmp_path / "curves.png", kept=kept)
        drawn.append((tmp_path / "curves.png").read_bytes())
    assert drawn[0] != drawn[1]


@pytest.mark.parametrize(("mixup", "told"), [(0.2, True), (0.0, False)])
def test_the_page_says_if_the_training_curve_is_of_mixed_images(tmp_path: Path, mixup: float, told: bool) -> None:
    assert ("mixtures of two images" in page(tmp_path, ["ant", "bee"], params={"phase2": {"mixup": mixup}})) is told


def test_classes_that_were_not_tested_stand_last_and_without_figures(tmp_path: Path) -> None:
    rows = [{"precision": 0.9, "recall": 0.9, "f1": 0.9, "support": 60}] * 2
    absent = [{"precision": None, "recall": None, "f1": None, "support": 0}] * 2
    tables = {phase: [absent[0], rows[0], absent[1], rows[1]] for phase in ("phase1", "phase2")}
    text = page(tmp_path, ["ant", "bee", "cow", "dog"], per_class=tables)
    table = text[text.index("the weakest first") : text.index("<h2>Images</h2>")]
    assert re.findall(r"<tr><th>(\w+)</th><td>(\d+)", table) == [
        *(("bee", "60"), ("dog", "60")),
        *(("ant", "0"), ("cow", "0")),
    ]
    assert table.count("<td>–</td><td>–</td>") == 2


def test_warnings_stand_above_the_figures_and_independent_units_are_counted(tmp_path: Path) -> None:
    text = page(tmp_path, ["ant", "bee"], warnings=["leaks: 2 of <9>"])
    assert '<p class="warning">Leaks: 2 of &lt;9&gt;.</p>' in text[: text.index('<section class="cards">')]
    assert "each independent of the others" in text
    text = page(tmp_path, ["ant", "bee"], units=np.arange(120) // 4)
    assert "120 test images, which are 30 independent units" in text and "exact test that turns whole units" in text


def test_above_a_hundred_classes_the_page_has_the_pairs_most_confused(tmp_path: Path) -> None:
    for count, told in ((pictures.PICTURED_CLASSES, False), (pictures.PICTURED_CLASSES + 1, True)):
        text = page(tmp_path, [f"c{n}" for n in range(count)])
        assert ("Pairs most confused by Phase 1" in text) is told is ("Confusion matrix of" not in text)


def test_rows_that_do_not_fit_the_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="each of the 3 classes, received 0 and 0"):
        page(tmp_path, ["a", "b", "c"], per_class={"phase1": [], "phase2": []})


def test_neither_tensorflow_nor_the_state_of_pyplot_is_imported() -> None:
    code = (
        "import sys, pathlib, tempfile; from thaw.evaluation import pictures, report; "
        "pictures.curves_picture({}, pathlib.Path(tempfile.mkdtemp()) / 'x.png'); "
        "print([name for name in ('tensorflow', 'keras', 'matplotlib.pyplot', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_blocks_of_the_backbone_are_shown_with_what_was_trained(tmp_path: Path) -> None:
    text = re.sub(r"\s+", " ", page(tmp_path, ["ant", "bee"]))
    assert "<tr><th>stem</th><td>4</td><td>992</td> <td>frozen</td><td>25.0 %</td></tr>" in text
    assert "<tr><th>top&lt;1&gt;</th><td>3</td><td>414,720</td> <td>409,600</td><td>75.0 %</td></tr>" in text
    assert "<tr><th>All</th><td>7</td><td>415,712</td> <td>409,600</td><td>100.0 %</td></tr>" in text


def test_keys_of_the_configuration_are_not_broken_and_long_values_are() -> None:
    style = (Path(report.__file__).parent / "report.css").read_text(encoding="utf-8")
    rules = dict(re.findall(r"^(details td\S*) \{(.*)\}$", style, re.MULTILINE))
    assert "white-space: nowrap" in rules["details td:first-child"]
    assert "overflow-wrap: anywhere" in rules["details td:last-child"]
    assert not [name for name in rules if "anywhere" in rules[name] and name != "details td:last-child"]
