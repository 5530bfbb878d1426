"""The model card is filled from the records and escapes every name; the tables are those that `dvc plots` draws."""

import html
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.evaluation import evaluated
from thaw import paths, records
from thaw.evaluation import documents, model_card

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def params() -> dict[str, Any]:
    return {**evaluated.PARAMS, "tracking": {"uri": "https://user:secret@server"}}


def test_all_that_people_read_is_written_and_where_runs_are_mirrored_is_in_none_of_it() -> None:
    evaluated.write(["ant", "bee", "cow"])
    evaluated.write_figures()
    documents.write(params())
    assert all(path.is_file() for path in (paths.REPORT, paths.MODEL_CARD, paths.CURVES, paths.CONFIGURATION))
    written = [path.read_bytes() for path in paths.EVALUATION.iterdir()]
    assert not any(b"secret" in data for data in written)
    documents.write(params())
    assert [path.read_bytes() for path in paths.EVALUATION.iterdir()] == written


def test_the_tables_are_those_of_dvc_yaml() -> None:
    evaluated.write(["ant", "bee", "cow"])
    evaluated.write_figures()
    documents.write(params())
    plots = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["plots"]
    drawn: dict[str, set[str]] = {}
    for plot in plots:
        (of,) = plot.values()
        for axis in ("x", "y"):
            for path, columns in of[axis].items() if isinstance(of[axis], dict) else ():
                drawn.setdefault(path, set()).update([columns] if isinstance(columns, str) else columns)
    for name in ("roc", "pr", "reliability", "coverage"):
        path = paths.EVALUATION / f"{name}.csv"
        rows = records.read_csv(path)
        assert len(rows) > 5 and drawn[path.as_posix()] <= set(rows[0])


def test_without_calibration_its_tables_are_empty() -> None:
    evaluated.write(["ant", "bee", "cow"])
    documents.write(params())
    assert records.read_csv(paths.EVALUATION / "reliability.csv") == []
    assert records.read_csv(paths.EVALUATION / "roc.csv") != []


def test_the_card_has_the_usual_sections_filled_from_the_records() -> None:
    evaluated.write(["ant", "bee", "cow"], warnings=["leaks: 2 of 9"], units=4)
    evaluated.write_figures()
    text = model_card.text()
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == [
        *("Model details", "Intended use", "Training data", "Evaluation", "Limits", "Ethical considerations"),
        "How to reproduce",
    ]
    tested = records.read_json(paths.metrics("evaluate"))["phase2"]
    assert "36 held-out test images, 9 of them independent" in text
    assert "the verdict chooses the phase to ship by them" in text and "nothing was chosen" not in text.lower()
    assert f"The accuracy is {100 * tested['accuracy']:.1f} %" in text
    assert (
        "Fine-tuning helped" in text
        and "leaks: 2 of 9" in text
        and "noise over all severities, accuracy 60.0 %" in text
    )
    assert "8.0 % as trained, 2.0 % after temperature scaling" in text
    head = yaml.safe_load(text.split("---")[1])
    assert head["pipeline_tag"] == "image-classification"
    assert head["model-index"][0]["results"][0]["metrics"][0]["value"] == round(tested["accuracy"], 4)


def test_no_name_changes_the_card() -> None:
    names = ["<b>x</b>", "a|b\n# heading", "[link](javascript:alert(1))", "`code` *bold* $x$ &amp; \\"]
    evaluated.write(names, params={"data": {"raw": "my `images`\n## x"}})
    text = model_card.text()
    assert "<b>" not in text and "\n# heading" not in text and "\n## x" not in text
    assert "\\[link\\](javascript" in text and "a\\|b" in text
    shown = html.unescape(re.sub(r"\\(.)", r"\1", text))
    assert all(" ".join(name.split()) in shown for name in names)
