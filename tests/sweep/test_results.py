"""The table of a sweep's trials, from the records that they leave."""

from pathlib import Path

import pytest

from thaw import records
from thaw.sweep import results


def test_the_table_is_the_same_bytes_whatever_the_trials_took_and_has_the_failed_last(finished_sweep: Path) -> None:
    swept = ["phase2.learning_rate", "phase2.unfreeze"]
    results.write(finished_sweep, swept, results.read(finished_sweep))
    before = (finished_sweep / results.FILE).read_bytes()
    lines = before.decode().splitlines()
    assert lines[0] == "phase2.learning_rate,phase2.unfreeze,val_loss,val_accuracy,best_epoch,trial,failure"
    assert lines[1] == '0.0001,40,0.2,0.95,2,"rate=0.0001,depth=40-00000003",'
    assert lines[-1] == "0.0001,80,,,,failed-00000009,it diverged"
    for path in finished_sweep.glob("*-*.json"):
        records.write_json(path, records.read_json(path) | {"seconds": None})
    results.write(finished_sweep, swept, results.read(finished_sweep))
    assert (finished_sweep / results.FILE).read_bytes() == before


def test_the_table_is_shown(finished_sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results.show(["phase2.unfreeze"], results.read(finished_sweep))
    head, first, *_, last = (line.split() for line in capsys.readouterr().out.splitlines())
    assert head[0] == "phase2.unfreeze"
    assert first == ["40", "0.2000", "95.0%", "2", "rate=0.0001,depth=40-00000003"]
    assert last == ["80", "failed", "failed-00000009"]


def test_what_a_trial_leaves_is_read_as_it_was_written_and_nothing_else_is(tmp_path: Path) -> None:
    figures = results.Figures(0.25, 0.75, best_epoch=2, layers=20, threads=4)
    left = results.TrialResult("a=1-0", ["a=1", "~b"], "a=1", "a", "", "a.log", 12.5, figures, "abc")
    results.keep(tmp_path / "one.json", left)
    records.write_json(tmp_path / results.PLAN, {"trials": 1})
    assert results.read(tmp_path) == [left] and left.given == {"a": "1"}
    # A metric more in the record of a stage is none of the sweep's.
    assert results.Figures.of({**vars(figures), "loss": 1.0}) == figures
    assert results.of_trial(tmp_path / "two.json") is None
    records.write_json(tmp_path / "two.json", {"figures": {"val_loss": 0.5}})
    with pytest.raises(ValueError, match=r"two\.json: expected the record of a trial, received another file"):
        results.read(tmp_path)


def test_a_trial_that_failed_has_no_figures() -> None:
    failed = results.TrialResult("a=1-0", [], "", "", "it diverged", "", None, None)
    with pytest.raises(ValueError, match="expected a finished trial, received one that failed: it diverged"):
        _ = failed.measured
