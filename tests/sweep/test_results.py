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
