"""The page and the text that compare a sweep's trials."""

import re
from pathlib import Path

import pytest

from thaw import layout, records, sweep_report, sweep_table


def test_the_page_shows_every_trial_the_pictures_and_what_is_proposed(finished_sweep: Path) -> None:
    ranked = sweep_report.write(finished_sweep)
    page = (finished_sweep / sweep_report.FILE).read_text(encoding="utf-8")
    for record in sweep_table.read(finished_sweep):
        assert (record["label"] if record["failure"] else record["name"][-8:]) in page
    assert page.count('<img src="data:image/png;base64,') == 3
    assert "McNemar" in page and "it diverged" in page
    assert re.search(r"thaw promote &#39;rate=0\.0001,depth=20-00000002&#39;", page) or (
        "thaw promote rate=0.0001,depth=20-00000002" in page
    )
    assert ranked.proposed.record["label"] == "lr=0.0001 depth=20"
    before = page
    sweep_report.write(finished_sweep)
    assert (finished_sweep / sweep_report.FILE).read_text(encoding="utf-8") == before


def test_the_verdict_says_how_noise_was_judged(finished_sweep: Path) -> None:
    ranked = sweep_report.write(finished_sweep)
    assert sweep_report.verdict(ranked) == (
        "Proposed: lr=0.0001 depth=20 (validation accuracy 92.5%, 20 layers thawed), the simplest of 2 trials that "
        "cannot be told from the most accurate (lr=0.0001 depth=40, 95.0%), on the same validation images: fewest "
        "thawed layers, then least time, then lowest loss."
    )
    for each in ranked.trials[2:]:
        each.p_value = None
    assert "on the same validation images (2 of 3 by their intervals): " in sweep_report.verdict(ranked)
    for each in ranked.trials:
        each.p_value = None
    assert "95.0%), by their intervals: " in sweep_report.verdict(ranked)
    ranked.trials[1].within_noise, ranked.proposed = False, ranked.best
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
    ranked = sweep_report.write(finished_sweep)
    page = (finished_sweep / sweep_report.FILE).read_text(encoding="utf-8")
    assert told in page and "<td>0 of 20</td><td>0</td>" in page
    assert "(validation accuracy 92.5%, 0 of 20 layers thawed: phase 2 did not help, the " in (
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
    for swept, pictures in some:
        records.write_json(finished_sweep / "plan.json", plan | {"swept": swept})
        sweep_report.write(finished_sweep)
        page = (finished_sweep / sweep_report.FILE).read_text(encoding="utf-8")
        assert page.count("<img ") == pictures


def test_the_sweep_that_ran_last_is_meant_where_none_is_named(project: Path) -> None:
    with pytest.raises(ValueError, match=r"expected a sweep in \.thaw/sweeps, found none"):
        sweep_report.latest()
    with pytest.raises(ValueError, match=r"expected a sweep's folder, as those in \.thaw/sweeps, received nowhere"):
        sweep_report.write(Path("nowhere"))
    for number, name in enumerate(("b", "a")):
        records.write_json(layout.SWEEPS / name / "plan.json", {"number": number})
    assert sweep_report.latest() == layout.SWEEPS / "a"


def test_numbers_are_ordered_by_size_and_stand_before_words() -> None:
    assert sweep_report._ordered(["none", "1e-4", "3e-5", "1", "all", "1"]) == ["3e-5", "1e-4", "1", "all", "none"]
