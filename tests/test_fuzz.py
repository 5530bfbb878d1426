"""Fuzz for a moment as ``benchmarks.fuzz`` does for minutes, and hold what it has found."""

import re
from pathlib import Path

import pytest
from hypothesis import settings

from benchmarks import fuzz
from thaw.config import load
from thaw.data import table

MOST = settings().max_examples // 2  # THAW_HYPOTHESIS=long asks for many
ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("name", fuzz.TARGETS)
def test_no_promise_is_broken_by_inputs_that_are_made_up(name: str) -> None:
    with fuzz.target(name) as promises:
        for strategy, promise in promises:
            most = MOST // 5 if promise is fuzz.compose else MOST  # to compose takes longer
            fuzz.examples(strategy, promise, most, derandomize=True)


def test_a_parquet_file_that_is_damaged_behind_its_end_is_an_error_that_names_it(tmp_path: Path) -> None:
    """Its footer is whole, and what that says of the pages is not so: pyarrow raises OSError."""
    whole = fuzz.tables(tmp_path)[-1]
    path = tmp_path / "images.parquet"
    path.write_bytes(whole[:4] + b"\xff" * 40 + whole[44:])
    with pytest.raises(ValueError, match=r"images\.parquet: expected a Parquet file, received "):
        table.read(path)


@pytest.mark.parametrize(
    "text", ["!!python/none", "!!int ''", "!!bool x", "[" * 5000, "\x00", "a: b: c", "? {a: 1}\n"]
)
def test_params_that_are_no_yaml_are_a_line_that_says_how_they_are_made_anew(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"params\.yaml.*expected .*python -m thaw\.config") as error:
        load.read()
    assert len(re.findall(r"\n", str(error.value))) == 0
