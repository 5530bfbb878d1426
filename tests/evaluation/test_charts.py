import math
import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from sklearn import metrics as sk

from thaw.evaluation import charts, figures
from thaw.evaluation.charts import Axes, Series


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0.72, 0.99, [0.75, 0.8, 0.85, 0.9, 0.95]),
        (0, 37, [0, 10, 20, 30]),
        (-1, 1, [-1, -0.5, 0, 0.5, 1]),
        (3, 3, [3]),
    ],
)
def test_ticks_are_round_numbers_within_the_range(low: float, high: float, wanted: list[float]) -> None:
    assert charts.ticks(low, high) == wanted


def test_ticks_of_epochs_are_whole_numbers() -> None:
    assert charts.ticks(1, 3, 8, whole=True) == [1, 2, 3]


def paths_of(svg: str, style: str) -> list[str]:
    """Return the outlines of the lines of a style; the picture must be well-formed."""
    found = ET.fromstring(svg).iter("path")  # noqa: S314 -- our own
    return [each.get("d", "") for each in found if each.get("class") == f"line {style}"]


def test_a_line_goes_through_its_points_and_is_broken_where_one_is_missing() -> None:
    axes = Axes((0, 10), (0, 1), "x", "<y>")
    svg = charts.lines("a & b", axes, [Series("one", [(0, 0), (5, 0.5), (6, math.nan), (10, 1)], "val")])
    (line,) = paths_of(svg, "val")
    left, right = charts.LEFT, charts.WIDTH - charts.RIGHT
    middle = (charts.TOP + charts.HEIGHT - charts.BOTTOM) / 2
    bottom = charts.HEIGHT - charts.BOTTOM
    assert line == f"M{left:.1f} {bottom:.1f}L{(left + right) / 2} {middle}M{right:.1f} {charts.TOP:.1f}"
    assert 'aria-label="a &amp; b"' in svg and "&lt;y&gt;" in svg


def test_training_curves_of_both_phases_share_an_axis_with_a_mark_between() -> None:
    rows = [
        {"epoch": str(e), "loss": str(1 / e), "accuracy": "0.5", "val_loss": "", "val_accuracy": "0.6"}
        for e in (1, 2, 3)
    ]
    loss, accuracy = figures.curves({"phase1": rows, "phase2": rows[:2]})
    assert "phase 2</text>" in loss[1] and loss[1].count('class="mark"') == 1
    (train,), (validation,) = paths_of(loss[1], "train"), paths_of(loss[1], "val")
    assert train.count("M") == 2 and len(re.findall("[ML]", train)) == 5 and validation == ""
    assert paths_of(accuracy[1], "val")[0].count("M") == 2
    assert figures.curves({"phase1": [], "phase2": []}) == []


@pytest.mark.parametrize("classes", [2, 7])
def test_the_curves_of_the_answers_are_scikit_learns(classes: int) -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, classes, 4000)
    logits = random.normal(size=(4000, classes)) + 1.5 * np.eye(classes)[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    found = figures.ranking(probabilities, labels)
    right = np.eye(classes, dtype=bool)[labels].ravel()
    x, y = np.array(found["roc"]).T
    assert np.trapezoid(y, x) == pytest.approx(sk.roc_auc_score(right, probabilities.ravel()), abs=2e-3)
    recall, precision = np.array(found["pr"]).T
    area = float(np.sum(np.diff(recall, prepend=0) * precision))
    assert area == pytest.approx(sk.average_precision_score(right, probabilities.ravel()), abs=2e-2)
    assert len(found["roc"]) < 4 * figures.POINTS and (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)


def test_equal_scores_are_one_step_of_a_curve() -> None:
    found = figures.ranking(np.full((6, 2), 0.5), np.array([0, 1] * 3))
    assert found["roc"] == [(0.0, 0.0), (1.0, 1.0), (1.0, 1.0)]


def test_corruptions_are_ordered_by_what_is_left_of_phase_2_with_all_of_them_last() -> None:
    def rows(name: str, severity: str, before: float, after: float) -> list[dict[str, str]]:
        own = {"corruption": name, "severity": severity, "images": "9", "low": "0.1", "high": "0.9"}
        return [own | {"phase": phase, "accuracy": str(of)} for phase, of in (("phase1", before), ("phase2", after))]

    found = figures.robustness(
        [
            *rows("blur", "1", 0.8, 0.9),
            *rows("blur", "2", 0.6, 0.7),
            *rows("blur", "all", 0.7, 0.8),
            *rows("all", "1", 0.7, 0.6),
            *rows("all", "2", 0.5, 0.4),
            *rows("all", "all", 0.6, 0.5),
            *rows("noise", "1", 0.5, 0.4),
            *rows("noise", "all", 0.5, 0.4),
            *rows("none", "0", 0.85, 0.95),
        ]
    )
    assert [(row["name"], row["phase1"], row["phase2"]) for row in found["table"]] == [
        *(("noise", 0.5, 0.4), ("blur", 0.7, 0.8), ("all", 0.6, 0.5)),
    ]
    assert found["table"][1]["cells"] == [("1", 0.8, 0.9), ("2", 0.6, 0.7)]
    assert found["clean"] == {"phase1": 0.85, "phase2": 0.95}
    (line,) = paths_of(found["chart"], "phase2")
    assert len(re.findall("[ML]", line)) == 3  # as they are, and two severities
    assert figures.robustness([]) == {}


def test_a_map_marks_mistakes_and_thins_what_is_too_much() -> None:
    count = 3 * figures.MAPPED
    places = {"images": list(range(count)), "x": [500] * count, "y": [0] * count}
    rows = [{"path": f"<{n}>", "label": "a", "predicted": "b" if n % 30 == 0 else "a"} for n in range(count)]
    svg = figures.embedding_map(places, rows, 1000)
    crosses, cloud = svg.count('class="cross"'), re.search(r'class="cloud" d="([^"]*)"', svg)
    assert cloud and crosses == count // 30 and crosses + cloud[1].count("M") == figures.MAPPED
    assert "<title>&lt;0&gt;: a, answered b</title>" in svg and ET.fromstring(svg) is not None  # noqa: S314


def test_the_names_of_a_few_classes_stand_in_their_middle_shortened_and_escaped() -> None:
    names = ["<b>", "a very long name of a class"]
    rows = [{"path": f"{n}", "label": names[n % 2], "predicted": names[n % 2]} for n in range(6)]
    places = {"images": list(range(6)), "x": [0, 100, 500, 100, 1000, 900], "y": [500] * 6}
    svg = figures.embedding_map(places, rows, 1000)
    assert re.findall(r'<text class="class" x="([\d.]+)".*?>(.*?)</text>', svg) == [
        ("210.0", "&lt;b&gt;"),  # the median of 0, 500 and 1000
        ("53.2", "a very long nam…"),
    ]
    many = [row | {"label": str(number)} for number, row in enumerate(rows * 4)]
    wide = {"images": list(range(24)), "x": places["x"] * 4, "y": places["y"] * 4}
    assert "<text" not in figures.embedding_map(wide, many, 1000)


def test_a_share_of_a_few_answers_is_no_point_of_the_reliability_diagram() -> None:
    rows = [
        {"count": count, "confidence": 0.05 + number / 10, "accuracy": 0.5}
        for number, count in enumerate((0, 1, 9, 10, 400))
    ]
    svg = figures.reliability({"before": rows, "after": rows[:3]})
    dots = re.findall(r'<path class="dots (phase\d)" d="(.*?)"', svg)
    assert [(style, path.count("h0")) for style, path in dots] == [("phase1", 2), ("phase2", 0)]
