"""Hold what a notebook shows, and run that of examples/ from its first cell to its last."""

import importlib
import importlib.util
import os
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

import thaw
from tests.serving import tiny
from thaw import paths, records
from thaw.api import notebook
from thaw.project import pipeline_run

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "first_classifier.ipynb"
# Put before the first cell where what stages leave is enough.
STAND_IN = "from tests.serving import tiny; from thaw.project import pipeline_run; pipeline_run.reproduce = tiny.leave"
needs_jupyter = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("nbclient", "nbformat", "ipykernel")),
    reason="needs the extra `dev`: nbclient, nbformat, ipykernel",
)


def test_a_run_is_shown_with_its_verdict_figures_and_pictures(tmp_path: Path) -> None:
    tiny.leave(tmp_path)
    shown = thaw.Run(tmp_path)._repr_html_()
    assert shown.count("75.0%") == 2 and "50.0% to 87.5%" in shown and "<img" not in shown
    assert "95 %" not in shown  # evaluate.confidence may be another
    records.write_json(tmp_path / paths.VERDICT, {"text": "It <helped>.", "ship": "phase1"})
    for picture in (paths.CURVES, paths.confusion_picture("phase1"), paths.confusion_picture("phase2")):
        (tmp_path / picture).write_bytes(picture.name.encode())
    shown = thaw.Run(tmp_path)._repr_html_()
    assert "It &lt;helped&gt;." in shown and shown.count("<img") == 2
    assert notebook._base64(tmp_path / paths.confusion_picture("phase1")) in shown


def test_the_bar_moves_with_the_stages_and_shows_the_last_line() -> None:
    assert 'value="2" max="6"' in notebook.drawn(2, 6, "x < y") and "x &lt; y" in notebook.drawn(2, 6, "x < y")
    assert "stage 6 of 6" in notebook.drawn(6, 6, "")
    assert not notebook.is_here()


def test_what_is_told_is_printed_only_where_a_stage_fails(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    told: list[str] = []
    pipeline_run.reproduce(project, "environment", "--dry", told=told.append)
    assert any(notebook.BEGINS.match(line) for line in told) and capfd.readouterr().out == ""
    with pytest.raises(ValueError, match="expected all stages to run"):
        pipeline_run.reproduce(project, "nosuch", told=told.append)
    assert "nosuch" in capfd.readouterr().out


def test_an_interruption_ends_the_command_though_a_process_of_it_ends_meanwhile(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ended:
        def send_signal(self, _: int) -> None:
            raise psutil.NoSuchProcess(1)

    def told(_: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline_run, "GRACE", 1)
    monkeypatch.setattr(psutil.Process, "children", lambda *_, **__: [Ended()])
    # A shell gives what it starts in the background an interrupt that is ignored.
    code = (
        "import signal, time; signal.signal(signal.SIGINT, signal.SIG_DFL); print('here', flush=True); time.sleep(60)"
    )
    words = [sys.executable, "-c", code]
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        pipeline_run._listened(words, project, dict(os.environ), told)
    assert time.monotonic() - began < 30


@needs_jupyter
@pytest.mark.filterwarnings("default")  # Jupyter's own
@pytest.mark.parametrize("first", [STAND_IN, pytest.param("", marks=pytest.mark.slow)], ids=["quick", "trained"])
def test_the_example_runs_and_shows_its_figures_and_its_report(
    first: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nbformat: Any = importlib.import_module("nbformat")
    nbclient: Any = importlib.import_module("nbclient")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / ".ipython"))
    document = nbformat.read(EXAMPLE, as_version=4)
    assert not [cell for cell in document.cells if cell.get("outputs")]  # what is kept is clean
    document.cells.insert(0, nbformat.v4.new_code_cell(first))
    client = nbclient.NotebookClient(document, timeout=1500, resources={"metadata": {"path": str(tmp_path)}})
    client.create_kernel_manager()
    client.km.kernel_spec.argv[0] = sys.executable
    client.execute()
    shown = [str(output.get("data", {})) for cell in document.cells for output in cell.get("outputs", [])]
    assert any("test accuracy" in each for each in shown)
    assert any("<iframe srcdoc" in each for each in shown)
    assert any("image/png" in each for each in shown)
    assert any("<progress value=" in each and "of 7" in each for each in shown)  # the bar, in the cell that fits
