"""The page and the text that compare a sweep's trials."""

import itertools
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from thaw import paths, records
from thaw.commands import cli
from thaw.evaluation import pictures as drawing
from thaw.sweep import pictures, results
from thaw.sweep import report as sweep_report


def test_the_page_shows_every_trial_the_pictures_and_what_is_proposed(finished_sweep: Path) -> None:
    ranked = sweep_report.write(finished_sweep)
    page = (finished_sweep / sweep_report.FILE).read_text(encoding="utf-8")
    for record in results.read(finished_sweep):
        assert (record.label if record.failure else record.name[-8:]) in page
    assert page.count('<img src="data:image/png;base64,') == 3
    assert "McNemar" in page and "it diverged" in page
    assert re.search(r"thaw promote &#39;rate=0\.0001,depth=40-00000003&#39;", page) or (
        "thaw promote rate=0.0001,depth=40-00000003" in page
    )
    assert "corrected for 6 comparisons" in page and "at most 1 point behind" in page
    assert page.count('<td data-name="Behind" class="soft">up to ') == 3
    assert ranked.proposed.record.label == "lr=0.0001 depth=40"
    before = page
    sweep_report.write(finished_sweep)
    assert (finished_sweep / sweep_report.FILE).read_text(encoding="utf-8") == before


def test_a_script_gets_the_trials_and_what_is_proposed(
    finished_sweep: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["thaw", "sweep-report", "--json"])
    cli.main()
    told = json.loads(capsys.readouterr().out)
    trials = {each["name"]: each for each in told["trials"]}
    assert [each["val_loss"] for each in told["trials"]] == [0.2, 0.3, 0.5, 0.6]
    assert [name for name, each in trials.items() if each["proposed"]] == [told["proposed"]]
    best = trials["rate=0.0001,depth=40-00000003"]
    assert best["swept"] == {"phase2.learning_rate": "0.0001", "phase2.unfreeze": "40"}
    assert (best["val_accuracy"], best["layers"], best["seconds"], best["within_noise"]) == (0.95, 40, 13.0, True)
    assert best["val_accuracy_low"] < 0.95 < best["val_accuracy_high"] and best["p_value"] is None
    assert told["failed"] == [{"name": "failed-00000009", "label": "lr=0.0001 depth=80", "failure": "it diverged"}]
    assert told["verdict"].startswith("Proposed: ") and Path(told["report"]).is_file()
    assert told["sweep"] == finished_sweep.name


def test_the_verdict_says_how_noise_was_judged(finished_sweep: Path) -> None:
    few = sweep_report.verdict(sweep_report.write(finished_sweep))
    assert few == (
        "Proposed: lr=0.0001 depth=40 (validation accuracy 95.0%, 40 layers unfrozen), the most accurate. 2 others "
        "cannot be told from it, on the same validation images. Of these 1 would be simpler, but 40 validation images "
        "cannot show that one is at most 1 point less accurate: the closest may be 18.8 points."
    )
    ranked = sweep_report.write(finished_sweep, margin=0.2)
    assert sweep_report.verdict(ranked) == (
        "Proposed: lr=0.0001 depth=20 (validation accuracy 92.5%, 20 layers unfrozen), the simplest of 2 trials that "
        "are at most 20 points less accurate than any other (the most accurate: lr=0.0001 depth=40, 95.0%), on the "
        "same validation images: fewest unfrozen layers, then least time, then lowest loss."
    )
    for each in ranked.trials[2:]:
        each.p_value = None
    assert "on the same validation images (2 of 3 by their intervals): " in sweep_report.verdict(ranked)
    for each in ranked.trials:
        each.p_value = None
    assert "95.0%), by their intervals: " in sweep_report.verdict(ranked)
    ranked.proposed = ranked.best
    for each in ranked.trials[1:]:
        each.within_noise = False
    assert sweep_report.verdict(ranked).endswith(
        "the most accurate. All others are worse by more than noise, by their intervals."
    )
    del ranked.trials[1:]
    assert sweep_report.verdict(ranked).endswith(", the only one that is finished.")


def test_the_page_says_where_phase_2_did_not_help(finished_sweep: Path) -> None:
    told = "no epoch of phase 2 had a lower loss than its start"
    sweep_report.write(finished_sweep)
    assert told not in (finished_sweep / sweep_report.FILE).read_text(encoding="utf-8")
    for path in finished_sweep.glob("rate=0.0001,depth=20-*.json"):
        record = records.read_json(path)
        records.write_json(path, record | {"figures": record["figures"] | {"best_epoch": 0}})
    ranked = sweep_report.write(finished_sweep, margin=0.2)
    page = (finished_sweep / sweep_report.FILE).read_text(encoding="utf-8")
    assert told in page and '<td data-name="Layers">0 of 20</td>\n<td data-name="Epoch">0</td>' in page
    assert "(validation accuracy 92.5%, 0 of 20 layers unfrozen: phase 2 kept its start, the " in (
        sweep_report.verdict(ranked)
    )


def test_the_page_names_what_trials_are_compared_with(finished_sweep: Path) -> None:
    for path in finished_sweep.glob("rate=0.0001,depth=40-*.json"):
        record = records.read_json(path)
        records.write_json(path, record | {"figures": record["figures"] | {"val_loss": 0.9}})
    ranked = sweep_report.write(finished_sweep)
    assert ranked.best is ranked.trials[-1]
    page = (finished_sweep / sweep_report.FILE).read_text(encoding="utf-8")
    assert re.search(r'Most accurate</span> <small class="soft">lr=0.0001 depth=40</small>\n<b>95.0', page)
    assert re.search(r'Lowest loss</span> <small class="soft">lr=0.0001 depth=20</small>\n<b>92.5', page)


def test_one_swept_parameter_or_none_makes_fewer_pictures(finished_sweep: Path) -> None:
    plan = records.read_json(finished_sweep / "plan.json")
    some: tuple[tuple[dict[str, list[str]], int], ...] = (({"phase2.unfreeze": []}, 2), ({}, 1))
    for swept, count in some:
        records.write_json(finished_sweep / "plan.json", plan | {"swept": swept})
        sweep_report.write(finished_sweep)
        page = (finished_sweep / sweep_report.FILE).read_text(encoding="utf-8")
        assert page.count("<img ") == count


def test_the_sweep_that_ran_last_is_meant_where_none_is_named(project: Path) -> None:
    with pytest.raises(ValueError, match=r"expected a sweep in \.thaw/sweeps, found none"):
        sweep_report.latest()
    with pytest.raises(ValueError, match=r"expected a sweep's folder, as those in \.thaw/sweeps, received nowhere"):
        sweep_report.write(Path("nowhere"))
    for number, name in enumerate(("b", "a")):
        records.write_json(paths.SWEEPS / name / "plan.json", {"number": number})
    assert sweep_report.latest() == paths.SWEEPS / "a"


def drawn(folder: Path, key: str, values: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> Axes:
    """The axes that a sweep of one parameter with these values is drawn in."""
    (path,) = folder.glob("rate=0.0001,depth=20-*.json")
    found = results.of_trial(path)
    assert found is not None
    trials = [replace(found, overrides=[f"{key}={value}"]) for value in values]
    monkeypatch.setattr(results, "read", lambda _: trials)
    records.write_json(folder / "plan.json", records.read_json(folder / "plan.json") | {"swept": {key: []}})
    figures: list[Figure] = []
    save = drawing.save

    def keep(figure: Figure, path: Path) -> None:
        save(figure, path)
        figures.append(figure)

    monkeypatch.setattr(drawing, "save", keep)
    sweep_report.write(folder)
    return figures[0].axes[0]


@pytest.mark.parametrize(
    ("values", "scale", "expected"),
    [
        (
            ["1e-05", "2e-05", "4e-05", "9e-05", "2e-04", "5e-04", "9e-04"],
            "log",
            ["1e-05", "3e-05", "0.0001", "0.0003"],
        ),
        (["2e-04", "3e-04", "4e-04", "5e-04", "6e-04", "7e-04", "8e-04"], "linear", ["0.0002", "0.0004", "0.0008"]),
        (["0", "0.1", "0.2", "0.3", "0.4", "0.5", "0.6"], "linear", ["0", "0.2", "0.4", "0.6"]),
        (["none", "1", "10"], "linear", ["1", "10", "none"]),
        (["block_1a", "block_2a", "block_3a", "block_4a", "block_5a", "block_6a"], "linear", ["block_1a"]),
    ],
)
def test_places_bear_their_values_as_people_write_them_and_no_two_touch(
    finished_sweep: Path, monkeypatch: pytest.MonkeyPatch, values: list[str], scale: str, expected: list[str]
) -> None:
    axes = drawn(finished_sweep, "phase2.learning_rate", values, monkeypatch)
    low, high = axes.get_xlim()
    labels = [label for minor in (False, True) for label in axes.get_xticklabels(minor=minor) if label.get_text()]
    labels = [label for label in labels if low <= label.get_position()[0] <= high]
    texts = [label.get_text() for label in labels]
    assert axes.get_xscale() == scale
    assert set(expected) <= set(texts) and not any("$" in text for text in texts)
    if not labels[0].get_rotation():
        boxes = sorted((label.get_window_extent() for label in labels), key=lambda box: box.x0)
        assert all(one.x1 < other.x0 for one, other in itertools.pairwise(boxes))
    shown = np.concatenate([np.asarray(line.get_xdata(), float) for line in axes.lines if line.get_marker() == "o"])
    assert len(shown) == len(values) and low <= shown.min() and shown.max() <= high


def test_numbers_are_ordered_by_size_and_stand_before_words() -> None:
    assert pictures._ordered(["none", "1e-4", "3e-5", "1", "all", "1"]) == ["3e-5", "1e-4", "1", "all", "none"]


def test_the_table_of_trials_breaks_where_the_page_is_narrow(finished_sweep: Path) -> None:
    sweep_report.write(finished_sweep)
    page = (finished_sweep / sweep_report.FILE).read_text(encoding="utf-8")
    assert ".trials th, .trials td { white-space: normal;" in page  # or the trials' names lie outside of it
    table = page[page.index('<table class="trials">') : page.index("</table>")]
    assert "<th>phase2.\u200blearning_rate</th>" in table
    shown, cells = re.findall(r"<th>(.*?)</th>", table), re.findall(r"<tr><td.*?</tr>", table, re.DOTALL)
    # Where columns do not fit, each figure bears the name of its column.
    names = re.findall(r'data-name="(.*?)"', cells[0])
    assert names == [name for name in shown if name]
    assert table.count('<td data-name="Trial"><code>0000000') == len(cells) == 4
