"""MLflow's registry: a version an export, and the champion, on SQLite as it is by default."""

import base64
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import pytest
from PIL import Image

from tests.serving import tiny
from thaw import paths, records
from thaw.commands import cli
from thaw.config import load, schema
from thaw.evaluation import intervals
from thaw.exports import formats
from thaw.images import columns
from thaw.serving import answers
from thaw.tracking import connection, mlflow_mirror, registry

TESTED = 40  # images


def encoded(colour: tuple[int, int, int], kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (20, 30), colour).save(buffer, kind)
    return buffer.getvalue()


GREEN, RED = encoded((40, 200, 40)), encoded((200, 40, 40), "JPEG")


def said_by(right: int, hashes: range = range(TESTED)) -> registry.Tested:
    """What a model said that gets so many of the images right."""
    predicted = ["red" if number < right else "green" for number in range(len(hashes))]
    return registry.Tested([f"{each:064x}" for each in hashes], ["red"] * len(hashes), predicted, [""] * len(hashes))


def test_what_is_said_of_the_manifests_images_can_be_noted_for_later() -> None:
    """Or the export, which is done, would end with a traceback where MLflow does not answer."""
    rows = columns.of([{"sha256": f"{number:064x}", "unit": ""} for number in range(2)])
    hashes, units = rows.strings("sha256"), rows.strings("unit")
    found = registry.tested(["green", "red"], hashes, np.array([0, 1]), np.eye(2, dtype=np.float32), units)
    assert registry.Tested(**json.loads(json.dumps(asdict(found)))) == found and found.accuracy() == 1


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> mlflow_mirror.Run:
    """A run in a new database, whose registry is empty."""
    folder = tmp_path_factory.mktemp("mlflow")
    patch = pytest.MonkeyPatch()
    patch.chdir(folder)
    settings = schema.Tracking(enabled=True, uri=f"sqlite:///{folder / 'mlflow.db'}", experiment="it's mine")
    client, experiment = connection.connect(settings)
    found = mlflow_mirror.Run("export", settings, {}, client, client.create_run(experiment).info.run_id)
    patch.undo()
    return found


@pytest.fixture
def export(tmp_path: Path) -> Callable[..., Path]:
    """Writes an export, another one for each number."""

    def write(number: int) -> Path:
        tiny.write(tmp_path / f"export-{number}" / paths.ONNX_FILE, number=number)
        return tmp_path / f"export-{number}"

    return write


def holder(run: mlflow_mirror.Run) -> str:
    assert run.client
    found = registry.champion(run.client, run.settings.experiment)
    return str(found.version) if found else ""


def test_a_version_an_export_and_the_champion_is_the_one_that_is_better(
    run: mlflow_mirror.Run, export: Callable[..., Path]
) -> None:
    assert holder(run) == ""
    said = [registry.register(run, export(1), said_by(30), intervals.mcnemar)]
    assert "version 1 of it's mine; now champion: the first" in said[-1] and holder(run) == "1"
    # The same bytes again are no other version.
    assert "already" in registry.register(run, export(1), said_by(30), intervals.mcnemar)
    # Better by 2 of 40 may be luck, by 10 is not (p = 0.5 and 0.002).
    assert "version 2 of it's mine; not champion: against version 1: 2 test images more right and 0 more wrong" in (
        registry.register(run, export(2), said_by(32), intervals.mcnemar)
    )
    assert holder(run) == "1"
    assert "p = 0.002" in registry.register(run, export(3), said_by(40), intervals.mcnemar)
    assert holder(run) == "3"
    # Worse, and tested on other images.
    assert "not champion" in registry.register(run, export(4), said_by(10), intervals.mcnemar)
    others = said_by(40, range(1000, 1040))
    assert "no test image in common" in registry.register(run, export(5), others, intervals.mcnemar)
    assert holder(run) == "3"
    assert run.client
    forced = registry.challenge(run.client, run.settings.experiment, "4", intervals.mcnemar, force=True)
    assert forced.startswith("now champion: forced, against version 3: 0 test images more right and 30 more wrong")
    assert holder(run) == "4"
    assert [str(each.version) for each in registry.versions(run.client, run.settings.experiment)] == list("12345")
    assert not run.warned


def test_a_server_that_is_away_for_a_moment_costs_the_champion_nothing() -> None:
    class Away:
        def get_model_version_by_alias(self, _name: str, _alias: str) -> Any:
            raise mlflow.exceptions.MlflowException("away", error_code=500)

    with pytest.raises(mlflow.exceptions.MlflowException, match="away"):
        registry.champion(Away(), "thaw")  # type: ignore[arg-type]


def test_images_of_one_unit_count_as_one(run: mlflow_mirror.Run, export: Callable[..., Path]) -> None:
    base = holder(run) or "1"
    better = said_by(40)
    one_unit = registry.Tested(better.hashes, better.labels, better.predicted, ["burst"] * TESTED)
    said = registry.register(run, export(6), one_unit, intervals.mcnemar)
    assert "not champion" in said and "p = 1" in said
    assert holder(run) == base


def test_the_command_lists_the_versions_and_moves_the_champion(
    run: mlflow_mirror.Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run.client
    monkeypatch.setattr(registry, "settings", lambda: (run.client, run.settings.experiment))

    def call(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["thaw", "champion", *words])
        try:
            cli.main()
        except SystemExit as left:
            return str(left.code)
        return capsys.readouterr().out

    first = call("3", "--force")
    assert first.startswith("version 3 of it's mine: now champion: ")
    lines = [line.split("\t") for line in call().splitlines()]
    assert [line[0] for line in lines] == ["  1", "  2", "* 3", "  4", "  5", "  6"]
    assert [line[1] for line in lines] == ["75.0%", "80.0%", "100.0%", "25.0%", "100.0%", "100.0%"]
    assert call("2").startswith("version 2 of it's mine: not champion: against version 3")
    assert call("9").startswith("thaw champion: expected a version of it's mine (1, 2, 3, 4, 5, 6), received 9")
    assert call("--force").startswith("thaw champion: --force: expected a version with it, received none")


def test_without_tracking_or_a_server_nothing_is_done_and_the_stage_goes_on(
    export: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    off = schema.Tracking(enabled=False, uri="", experiment="thaw")
    assert registry.register(mlflow_mirror.Run("export", off, {}), export(1), said_by(3), intervals.mcnemar) == ""
    on = schema.Tracking(enabled=True, uri=f"sqlite:///{tmp_path}/no.db", experiment="thaw")
    broken: Any = object()  # a client that can do nothing
    run = mlflow_mirror.Run("export", on, {}, broken, "x")
    assert registry.register(run, export(1), said_by(3), intervals.mcnemar) == ""
    assert run.warned and "goes on without tracking" in capsys.readouterr().err
    capsys.readouterr()
    assert (
        registry.register(mlflow_mirror.Run("export", on, {}, broken), tmp_path, said_by(3), intervals.mcnemar) == ""
    )
    assert "not registered: a version holds the format onnx" in capsys.readouterr().out, "export.formats lacks it"


def test_what_was_not_registered_is_registered_later_if_it_still_lies_there(
    run: mlflow_mirror.Run,
    export: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    export(7).rename(tmp_path / "export")
    (tmp_path / "models").mkdir()
    (tmp_path / "export").rename(paths.EXPORTED)
    assert registry.make_up(intervals.mcnemar) == "", "nothing waits"
    dead = mlflow_mirror.Run(
        "export", run.settings, {"tracking": {"uri": "secret"}, "head": 1}
    )  # whose server did not answer when the stage began
    assert registry.register(dead, paths.EXPORTED, said_by(30), intervals.mcnemar) == ""
    assert "`thaw champion` registers it" in capsys.readouterr().out
    kept = paths.UNREGISTERED.read_bytes()
    assert b"secret" not in kept

    @contextmanager
    def stage(name: str, settings: schema.Tracking, params: Any) -> Iterator[mlflow_mirror.Run]:
        assert (name, settings, params) == ("export", run.settings, {"head": 1, "more": 3}), "that of the export"
        yield run

    monkeypatch.setattr(mlflow_mirror, "stage", stage)
    monkeypatch.setattr(load, "read", lambda: (SimpleNamespace(tracking=run.settings), {"head": 2, "more": 3}))
    assert run.client
    before = len(registry.versions(run.client, run.settings.experiment))
    assert registry.make_up(intervals.mcnemar).startswith(f"version {before + 1} of it's mine; ")
    assert not paths.UNREGISTERED.exists() and registry.make_up(intervals.mcnemar) == ""
    # Another export lies there now, which was registered itself.
    paths.UNREGISTERED.write_bytes(kept)
    tiny.write(paths.EXPORTED / paths.ONNX_FILE, number=8)
    assert registry.make_up(intervals.mcnemar) == "" and not paths.UNREGISTERED.exists()
    assert len(registry.versions(run.client, run.settings.experiment)) == before + 1


@pytest.fixture
def loaded(run: mlflow_mirror.Run) -> Any:
    """The first version, as MLflow loads it."""
    uri = run.settings.uri
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    return mlflow.pyfunc.load_model(f"models:/{run.settings.experiment}/1")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_registered_model_answers_bytes_and_base64_as_thaw_predict_does_and_says_errors_in_a_line(
    loaded: Any, export: Callable[..., Path]
) -> None:
    here = formats.load(export(1))
    text = base64.b64encode(RED).decode()
    images = [GREEN, text, f"data:image/jpeg;base64,{text}", b"no image", "no base64!", RED[:200], 7, b""]
    rows = loaded.predict(pd.DataFrame({"image": images}))
    assert [row["label"] for row in rows] == ["grün, hell", "red", "red", *[None] * 5]
    for row, data in zip(rows, (GREEN, RED, RED), strict=False):
        np.testing.assert_array_equal(list(row["probabilities"].values()), answers.answer(here, data))
        assert row["error"] is None and row["probability"] == max(row["probabilities"].values())
    errors = [row["error"] for row in rows[3:]]
    assert all(error.startswith("expected ") and "received" in error and "\n" not in error for error in errors)


def test_no_pickle_is_in_a_version_and_its_files_say_what_it_takes(loaded: Any, run: mlflow_mirror.Run) -> None:
    assert run.client
    version = registry.versions(run.client, run.settings.experiment)[0]
    folder = Path(run.client.download_artifacts(str(version.run_id), version.tags[registry.FOLDER]))
    names = [path.name for path in folder.rglob("*") if path.is_file()]
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".joblib"))]
    assert {"model.onnx", "scoring.py", "input_example.json", registry.TEST} <= set(names)
    assert [column.name for column in loaded.metadata.get_input_schema()] == ["image"]
    assert [column.name for column in loaded.metadata.get_output_schema()][:2] == ["label", "probability"]
    wanted = (folder / "requirements.txt").read_text().split()
    assert [line.split("==")[0] for line in wanted] == ["mlflow", "numpy", "onnxruntime", "pillow"]


def test_a_version_whose_file_is_not_the_one_that_was_registered_is_not_loaded(
    loaded: Any, run: mlflow_mirror.Run, tmp_path: Path
) -> None:
    assert run.client
    version = registry.versions(run.client, run.settings.experiment)[0]
    given = run.client.download_artifacts(str(version.run_id), version.tags[registry.FOLDER])
    folder = tmp_path / "version"
    shutil.copytree(given, folder)
    (file,) = folder.rglob(paths.ONNX_FILE)
    assert loaded.model_config[registry.MODEL_SHA256] == version.tags[registry.MODEL_SHA256] == records.sha256(file)
    assert mlflow.pyfunc.load_model(str(folder)).predict(pd.DataFrame({"image": [RED]}))[0]["label"] == "red"
    tiny.write(file, number="another whole model that would answer")
    with pytest.raises(ValueError, match=r"expected the model that was registered \(sha256 .* received another one"):
        mlflow.pyfunc.load_model(str(folder))


@pytest.mark.slow
def test_mlflow_serves_it_and_answers_a_bad_image_without_a_traceback(
    run: mlflow_mirror.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, export: Callable[..., Path]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", run.settings.uri)
    registry.register(run, export(1), said_by(30), intervals.mcnemar)  # where no test before has
    assert run.client
    version = registry.versions(run.client, run.settings.experiment)[0]
    # By its folder: MLflow puts the name between quotes into a shell's command, and this one has a quote in it.
    folder = run.client.download_artifacts(str(version.run_id), version.tags[registry.FOLDER])
    words = [sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local", "--port", str(port)]
    words += ["--model-uri", folder, "--workers", "1"]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(words, cwd=tmp_path, stdout=log, stderr=log, start_new_session=True)
    try:
        _wait(f"http://127.0.0.1:{port}/ping", server, tmp_path / "log")
        given = [[base64.b64encode(data).decode()] for data in (RED, b"no image", GREEN)]
        body = json.dumps({"dataframe_split": {"columns": ["image"], "data": given}}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as reply:  # noqa: S310 -- http
            text = reply.read().decode()
        guide = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")
        (line,) = re.findall(r"^curl .*/invocations$", guide, re.MULTILINE)
        line = line.replace("BASE64", base64.b64encode(RED).decode()).replace(":5000", f":{port}")
        said = subprocess.run(["bash", "-c", line], capture_output=True, check=True, timeout=60).stdout
        assert json.loads(said)["predictions"][0]["label"] == "red"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        server.wait(60)
    rows = json.loads(text)["predictions"]
    assert [row["label"] for row in rows] == ["red", None, "grün, hell"]
    assert rows[1]["error"].startswith("expected an image, received one that is not an image")
    assert "Traceback" not in text


def _wait(address: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    for _ in range(240):
        assert server.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(address, timeout=5):  # noqa: S310 -- http
                return
        except (OSError, urllib.error.URLError):
            time.sleep(0.5)
    pytest.fail(log.read_text())
