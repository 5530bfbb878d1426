"""The examples of docs/serving.md that need no TensorFlow are run, on an export of the tiny classifier."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.serving.conftest import ROOT, Running
from thaw import paths

GUIDE = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_export: Path, red: bytes, green: bytes) -> Path:
    """A project of which an export and two images are left."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    shutil.copytree(tiny_export, tmp_path / paths.EXPORTED)
    for name, data in (("7/3500.png", red), ("0/0000.png", green)):
        (tmp_path / "data/sample/digits" / name).parent.mkdir(parents=True)
        (tmp_path / "data/sample/digits" / name).write_bytes(data)
    return tmp_path


def run(line: str) -> str:
    """Return what a line of the guide prints, run by a shell as a reader does."""
    done = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, encoding="utf-8", check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# Lines of the guide that are run elsewhere, or can't be run here, by how they begin.
ELSEWHERE = {
    "docker run ": "needs Docker",
    "thaw serve ": "tests/serving/test_server.py",
    "thaw demo ": "tests/serving/test_demo.py",
    "thaw champion": "tests/tracking/test_registry.py",
    'curl --json \'{"dataframe_split"': "tests/tracking/test_registry.py",
}
HERE = ("curl ", "base64 ", "find photos ", "thaw predict ")


def test_each_line_for_a_shell_is_run_here_or_it_is_said_where() -> None:
    blocks = re.findall(r"^```bash\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).splitlines()
    unknown = [line for line in lines if not line.startswith((*HERE, *ELSEWHERE))]
    assert len(lines) > len(ELSEWHERE) and unknown == []


@pytest.mark.usefixtures("here")
def test_the_line_of_predict_is_answered() -> None:
    (line,) = re.findall(r"^thaw predict .*$", GUIDE, re.MULTILINE)
    (told,) = json.loads(run(line.replace("IMAGE_OR_FOLDER", "data/sample/digits/7")))
    assert told["label"] == "red" and sorted(told) == ["label", "path", "probabilities", "probability"]


@pytest.mark.usefixtures("here")
def test_the_requests_with_curl_are_answered(server: Running) -> None:
    lines = re.findall(r"^.*curl .*/predict$", GUIDE, re.MULTILINE)
    said = [json.loads(run(line.replace(":8000", f":{server.port}"))) for line in lines]
    alone, several, in_json = said
    assert alone["label"] == in_json["label"] == "red"
    assert [each["label"] for each in several["predictions"]] == ["red", "grün, hell"]


def test_the_paths_of_standard_input_are_answered(here: Path) -> None:
    (line,) = re.findall(r"^find photos .*$", GUIDE, re.MULTILINE)
    (here / "yesterday").touch()
    (here / "photos").mkdir()
    shutil.copy(here / "data/sample/digits/7/3500.png", here / "photos" / "new.jpg")
    (here / "old.jpg").touch()
    assert run(line) == ""
    rows = (here / "answers.csv").read_text(encoding="utf-8").splitlines()
    assert rows[0].startswith("path,label,probability,") and rows[1].startswith("photos/new.jpg,red,0.99")


@pytest.mark.usefixtures("here")
def test_the_example_of_onnx_runtime_needs_nothing_of_thaw() -> None:
    (block,) = re.findall(r"^```python\n((?:(?!```).)*onnxruntime(?:(?!```).)*)^```", GUIDE, re.MULTILINE | re.DOTALL)
    assert "thaw." not in block
    label, probability, name = run(f"{sys.executable} - <<'END'\n{block}END").split()
    assert (label, name) == ("red", "red") and float(probability) > 0.99
