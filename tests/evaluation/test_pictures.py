"""The picture of a confusion can be read, is bounded in size, and names the pairs where a matrix cannot be read."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from thaw import records
from thaw.evaluation import pictures

NASTY = ["<script>alert(1)</script>", 'quote " & $x^{2}$', "写真"]


def pixels(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def near(picture: NDArray[np.uint8], colour: str) -> NDArray[np.bool_]:
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    close: NDArray[np.bool_] = np.abs(picture.astype(int) - wanted).max(axis=2) <= 12
    return close


@pytest.mark.parametrize("n", [1, 2, 30, 31, 200])
def test_a_confusion_picture_grows_with_the_classes_and_stays_a_sensible_size(n: int, tmp_path: Path) -> None:
    counts = np.random.default_rng(n).integers(0, 50, (n, n))
    pictures.confusion_picture(counts, [f"class {i}" for i in range(n)], "Title", tmp_path / "picture.png")
    height, width, _ = pixels(tmp_path / "picture.png").shape
    assert 300 < height < 3500
    assert 300 < width < 3500
    assert (tmp_path / "picture.png").stat().st_size < 3_000_000


def test_the_colour_of_a_cell_is_its_share_of_the_row(tmp_path: Path) -> None:
    n = pictures.COUNTED_CLASSES + 1  # no counts written, so that cells are plain
    counts = np.zeros((n, n), np.int64)
    counts[:, 0], counts[3, 0] = np.arange(n), 0  # in each row but 0 and 3, all images are called class 0
    path = tmp_path / "picture.png"
    pictures.confusion_picture(counts, [""] * n, "", path)
    dark = near(pixels(path), "#08306b")
    columns = dark.sum(axis=0)
    first = int(columns.argmax())  # a column of pixels through the first column of cells
    cell = 0.12 * pictures.DPI
    assert columns[first] == pytest.approx((n - 2) * cell, abs=2)


def test_counts_are_written_for_few_classes_only(tmp_path: Path) -> None:
    few = pictures.COUNTED_CLASSES
    path = tmp_path / "picture.png"
    for n, written in ((few, True), (few + 1, False)):
        drawn = []
        for count in (11, 88):  # the same shares, other numbers
            pictures.confusion_picture(np.eye(n, dtype=np.int64) * count, ["x"] * n, "", path)
            drawn.append(path.read_bytes())
        assert (drawn[0] != drawn[1]) is written


def test_class_names_are_drawn_as_they_are_whatever_they_hold(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    broken = ["$\\frac{$", "a" * 300, *NASTY]  # the first is no valid mathtext
    pictures.confusion_picture(np.eye(5, dtype=np.int64), broken, "$\\x$", tmp_path / "picture.png")
    height, width, _ = pixels(tmp_path / "picture.png").shape
    assert max(height, width) < 1500
    assert not recwarn.list


def test_a_confusion_that_does_not_fit_its_classes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected shape \(3, 3\) for 3 classes, received \(2, 2\)"):
        pictures.confusion_picture(np.eye(2, dtype=np.int64), ["a", "b", "c"], "", tmp_path / "picture.png")


def test_the_pairs_most_confused_are_drawn_in_order_with_their_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    n = pictures.PICTURED_CLASSES + 1
    counts = np.eye(n, dtype=np.int64) * 6
    counts[7, 3], counts[2, 9], counts[50, 51] = 2, 4, 2
    drawn = []
    monkeypatch.setattr(pictures, "save", lambda figure, _: drawn.append(figure))
    pictures.confusion_picture(counts, [f"c{i}" for i in range(n)], "Title", tmp_path / "picture.png")
    axes = drawn[0].axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["c2 → c9", "c7 → c3", "c50 → c51"]
    assert [text.get_text() for text in axes.texts] == ["4 (40%)", "2 (25%)", "2 (25%)"]
    low, high = axes.get_ylim()
    assert low > high  # the first is at the top


def test_three_thousand_classes_take_little_memory_and_no_more_pixels(tmp_path: Path) -> None:
    code = (
        "import sys, numpy as np, pathlib, resource; from thaw.evaluation import pictures\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2 * 2**30,) * 2)\n"
        "counts = np.random.default_rng(0).integers(0, 9, (3000, 3000))\n"
        "names = [f'class number {i}' for i in range(3000)]\n"
        "pictures.confusion_picture(counts, names, 'Title', pathlib.Path(sys.argv[1]))"
    )
    path = tmp_path / "picture.png"
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, env={"OPENBLAS_NUM_THREADS": "1"})
    height, width, _ = pixels(path).shape
    assert height * width < 2_000_000


def history(epochs: int, start: float) -> list[dict[str, Any]]:
    return [
        {"epoch": e, "loss": start / e, "accuracy": 1 - 0.5 / e, "val_loss": start / e + 0.1, "val_accuracy": 0.9}
        for e in range(1, epochs + 1)
    ]


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


def test_the_same_curves_are_the_same_bytes_whatever_the_settings_of_the_user(tmp_path: Path) -> None:
    pictures.curves_picture({"phase1": history(4, 1.0)}, tmp_path / "1.png")
    with matplotlib.rc_context({"font.size": 20, "lines.linewidth": 9, "savefig.dpi": 30, "axes.grid": True}):
        pictures.curves_picture({"phase1": history(4, 1.0)}, tmp_path / "2.png")
        assert matplotlib.rcParams["font.size"] == 20
    assert (tmp_path / "1.png").read_bytes() == (tmp_path / "2.png").read_bytes()
    with Image.open(tmp_path / "1.png") as image:
        assert "Software" not in image.info


def test_the_curves_say_that_phase_2_was_not_kept(tmp_path: Path) -> None:
    histories = {"phase1": history(4, 1.0), "phase2": history(3, 0.4)}
    drawn = []
    for kept in ("", "Phase 2 did not help."):
        pictures.curves_picture(histories, tmp_path / "curves.png", kept=kept)
        drawn.append((tmp_path / "curves.png").read_bytes())
    assert drawn[0] != drawn[1]
