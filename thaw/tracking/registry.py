"""MLflow's registry of models: a version an export, and the alias ``champion``, which only a better one gets.

A version holds ``model.onnx``, the code that reads files as training did, and what the model said of each test image.
So two versions are compared on the images that both were tested on.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thaw import console, paths, records
from thaw.config import schema
from thaw.tracking import connection, mlflow_mirror, model_version

# How MLflow says that there is no model of a name, and no version with an alias.
NONE_THERE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CHAMPION = "champion"
MODEL_SHA256, FOLDER, REASON = model_version.SHA256, "thaw.folder", "thaw.champion"  # tags of a version
TEST = "test.csv"
COLUMNS = ("sha256", "label", "predicted", "unit")
SIGNIFICANT = 0.05  # p-value below which the better of two is better

# (images,) bool for each of two models, whether it is right; (images,) units → p_value, only_a, only_b
Paired = Callable[[np.ndarray, np.ndarray, np.ndarray], Mapping[str, Any]]


@dataclass(frozen=True)
class Tested:
    """What a model said of each test image."""

    hashes: Sequence[str]  # hex sha256 of the files
    labels: Sequence[str]  # names of the true classes
    predicted: Sequence[str]  # names of the likeliest classes
    units: Sequence[str]  # of each image what it must stay with; empty if alone

    def accuracy(self) -> float:
        """Return the share of right answers."""
        return float(np.mean([a == b for a, b in zip(self.labels, self.predicted, strict=True)]))


def tested(
    classes: Sequence[str], hashes: Sequence[str], labels: np.ndarray, rows: np.ndarray, units: Sequence[str]
) -> Tested:
    """Return what a model said of the test images.

    Args:
        classes: their names; ``labels`` and the columns of ``rows`` are by their order.
        hashes: hex sha256 of the files.
        labels: (images,) int64, the true classes.
        rows: (images, classes) float32 probabilities.
        units: of each image what it must stay with; empty if alone.
    """
    true, said = ([classes[index] for index in indices] for indices in (labels, rows.argmax(axis=1)))
    return Tested(list(hashes), true, said, list(units))  # which are noted as JSON


def register(run: mlflow_mirror.Run, folder: Path, test: Tested, paired: Paired) -> str:
    """Register an export as a version, and let it be champion if it is better.

    Args:
        run: of the stage; without tracking nothing is done, and without a server a note is left for ``make_up``.
        folder: what `export` wrote. Without ``model.onnx`` in it nothing is done either, which is said.
        test: what the model said of the test images.
        paired: the paired test.

    Returns:
        What became of it, which is printed too; empty if nothing did.
    """
    said: list[str] = []
    if not run.settings.enabled:
        return ""
    if not (folder / paths.ONNX_FILE).is_file():
        console.result(run.stage, "the export is not registered: a version holds the format onnx, which it lacks")
        return ""

    def enter() -> None:
        client = run.client
        if client is None:
            return
        name = named(run.settings)
        version = _version(client, name, run.id, folder, test)
        said.append(f"version {version} of {name}; {challenge(client, name, version, paired)}")

    mlflow_mirror.attempt(run, enter)
    _note(folder, test, run, done=bool(said))
    for text in said:
        console.result(run.stage, text)
    return "".join(said)


def _note(folder: Path, test: Tested, run: mlflow_mirror.Run, *, done: bool) -> None:
    """Keep what ``make_up`` needs of an export that was not registered; say so, and how that is made good."""
    if paths.main_root() != Path.cwd().resolve():
        return  # of an experiment, whose folder goes
    if done:
        paths.UNREGISTERED.unlink(missing_ok=True)
        return
    digest = records.sha256(folder / paths.ONNX_FILE)
    # Its configuration, since params.yaml may be another one by then; an address with a password stays out of it.
    params = {name: group for name, group in run.params.items() if name != "tracking"}
    records.write_json(paths.UNREGISTERED, {MODEL_SHA256: digest, "tested": asdict(test), "params": params})
    console.result(run.stage, "the export is not registered; `thaw champion` registers it once MLflow answers")


def make_up(paired: Paired) -> str:
    """Register the export that could not be when it was made, if it still lies there; return what became of it."""
    if not paths.UNREGISTERED.is_file():
        return ""
    from thaw.config import load  # noqa: PLC0415 -- only a command asks for it

    kept, model = records.read_json(paths.UNREGISTERED), paths.EXPORTED / paths.ONNX_FILE
    if not model.is_file() or records.sha256(model) != kept[MODEL_SHA256]:
        paths.UNREGISTERED.unlink()  # another export has taken its place
        return ""
    project, params = load.read()
    with mlflow_mirror.stage("export", project.tracking, params | kept["params"]) as run:
        return register(run, paths.EXPORTED, Tested(**kept["tested"]), paired)


def challenge(client: "MlflowClient", name: str, version: str, paired: Paired, *, force: bool = False) -> str:
    """Make a version champion if there is none, if it is better on the same test images, or if it is forced.

    Returns:
        What was decided, and why.
    """
    holder = champion(client, name)
    if holder is None:
        moves, why = True, f"the first {CHAMPION}"
    elif str(holder.version) == version:
        return f"it is {CHAMPION} already"
    else:
        moves, why = _compared(_tested(client, holder), _tested(client, _get(client, name, version)), paired)
        why = f"against version {holder.version}: {why}"
        if force and not moves:
            moves, why = True, f"forced, {why}"
    if moves:
        client.set_registered_model_alias(name, CHAMPION, version)
    said = f"{'now' if moves else 'not'} {CHAMPION}: {why}"
    client.set_model_version_tag(name, version, REASON, said)
    return said


def champion(client: "MlflowClient", name: str) -> "ModelVersion | None":
    """Return the version that has the alias; None where none has."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415 -- seconds

    try:
        return client.get_model_version_by_alias(name, CHAMPION)
    except MlflowException as error:
        # Or a server that is away for a moment would cost the champion its name.
        if error.error_code not in NONE_THERE:
            raise
        return None


def versions(client: "MlflowClient", name: str) -> list["ModelVersion"]:
    """Return all versions, the oldest first."""
    quote = '"' if "'" in name else "'"
    return sorted(client.search_model_versions(f"name = {quote}{name}{quote}"), key=lambda each: int(each.version))


def settings() -> tuple["MlflowClient", str]:
    """Return a client, and the model's name, by params.yaml."""
    from thaw.config import load  # noqa: PLC0415 -- only a command asks for it

    tracking: schema.Tracking = load.read()[0].tracking
    return connection.connect(tracking)[0], named(tracking)


def named(tracking: schema.Tracking) -> str:
    """Return the registered model's name: the experiment's, without what MLflow refuses in it."""
    return re.sub(r"[/:\"]", "_", tracking.experiment)


def _get(client: "MlflowClient", name: str, version: str) -> "ModelVersion":
    found = [each for each in versions(client, name) if str(each.version) == version]
    if not found:
        there = ", ".join(str(each.version) for each in versions(client, name)) or "none"
        raise ValueError(f"expected a version of {name} ({there}), received {version}; `thaw champion` lists them")
    return found[0]


def _version(client: "MlflowClient", name: str, run: str, folder: Path, test: Tested) -> str:
    """Return the version of an export: there already where the same file was registered."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    digest = records.sha256(folder / paths.ONNX_FILE)
    for each in versions(client, name):
        if each.tags.get(MODEL_SHA256) == digest:
            return str(each.version)
    kept = f"model-{digest[:12]}"
    with tempfile.TemporaryDirectory() as scratch:
        _save(Path(scratch, "model"), folder, test)
        client.log_artifacts(run, str(Path(scratch, "model")), kept)
    try:
        client.create_registered_model(name)
    except MlflowException:
        client.get_registered_model(name)  # it is there, or else this says why it can't be made
    tags = {MODEL_SHA256: digest, FOLDER: kept, "thaw.test_accuracy": f"{test.accuracy():.6f}"}
    source = f"{client.get_run(run).info.artifact_uri}/{kept}"
    return str(client.create_model_version(name, source, run_id=run, tags=tags).version)


def _save(path: Path, folder: Path, test: Tested) -> None:
    """Write the version's folder.

    MLflow's part of it is written by a process of its own: this one has imported MLflow without pandas, which that
    needs, and which costs each stage a second.
    """
    model = (folder / paths.ONNX_FILE).resolve()
    words = [sys.executable, "-W", "ignore", "-m", "thaw.tracking.model_version", str(model), str(path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise ValueError(f"expected MLflow to write the model, received an error: {last[0]:.300}")
    rows = zip(test.hashes, test.labels, test.predicted, test.units, strict=True)
    records.write_csv(path / TEST, COLUMNS, (dict(zip(COLUMNS, row, strict=True)) for row in rows))


def _tested(client: "MlflowClient", version: "ModelVersion") -> Tested:
    with tempfile.TemporaryDirectory() as scratch:
        path = client.download_artifacts(str(version.run_id), f"{version.tags[FOLDER]}/{TEST}", scratch)
        rows = records.read_csv(Path(path))
    return Tested(*([row[name] for row in rows] for name in COLUMNS))


def _compared(old: Tested, new: Tested, paired: Paired) -> tuple[bool, str]:
    """Return whether ``new`` is better on the images that both were tested on, and how the two compare."""
    before = {key: (label, said) for key, label, said in zip(old.hashes, old.labels, old.predicted, strict=True)}
    common = [
        (label == before[key][1], label == said, unit or f"alone {key}")
        for key, label, said, unit in zip(new.hashes, new.labels, new.predicted, new.units, strict=True)
        if before.get(key, ("", ""))[0] == label
    ]
    if not common:
        return False, "no test image in common, so nothing is known"
    a, b, units = zip(*common, strict=True)
    told = paired(np.array(a), np.array(b), np.unique(units, return_inverse=True)[1])
    gained, lost, p_value = told["only_b"], told["only_a"], told["p_value"]
    text = f"{gained} test images more right and {lost} more wrong of {len(common):,}, p = {p_value:.2g}"
    return gained > lost and p_value < SIGNIFICANT, text
