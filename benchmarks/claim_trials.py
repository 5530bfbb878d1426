"""Trainings of both phases for ``benchmarks.claims``: on the same test images, with what each costs and forgets."""

import hashlib
import json
import random
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from scipy import special

from benchmarks import project
from thaw import paths, records
from thaw.catalog import backbones
from thaw.classifier import model
from thaw.config import schema
from thaw.evaluation import evaluate, predictions
from thaw.features import out_of_fold
from thaw.images import manifest
from thaw.networks import efficientnet_lite, torch_checkpoint
from thaw.runtime.framework import keras
from thaw.training import improvement

Row = Mapping[str, str]

LISTING = "images.csv"
HEADS = Path("heads")  # what phase 1 has left, by what it was trained with
OF_PHASE1 = (paths.PREPARED, Path("models"), paths.METRICS)
PROBED = 400  # other images at most, by which is asked what the features still tell


@dataclass
class Trial:
    """One training of both phases, and its test; or several of them, with other seeds, one after another."""

    right: dict[str, np.ndarray]  # by phase (images,) bool
    units: np.ndarray  # (images,)
    seconds: dict[str, float]  # of processor time by phase, feature extraction with it
    history: dict[str, list[dict[str, str]]] = field(default_factory=dict)  # by phase, a row an epoch
    worse: bool = False  # whether the pipeline would have kept phase 2's start, by the validation images
    drift: float = 0.0  # 1 - mean cosine of the embeddings of validation images before and after phase 2
    probe: dict[str, float] = field(default_factory=dict)  # by phase the accuracy on other images; see ``probed``
    imagenet: dict[str, float] = field(default_factory=dict)  # what of ImageNet's classes is forgotten; see there too


def pooled(trials: Sequence[Trial]) -> Trial:
    """Return several trials as one; an image is one unit in all of them, so no seed makes an interval narrower."""
    return Trial(
        right={phase: np.concatenate([each.right[phase] for each in trials]) for phase in trials[0].right},
        units=np.concatenate([each.units for each in trials]),
        seconds=_mean([each.seconds for each in trials]),
        worse=all(each.worse for each in trials),
        drift=float(np.mean([each.drift for each in trials])),
        probe=_mean([each.probe for each in trials]),
        imagenet=_mean([each.imagenet for each in trials]),
    )


def _mean(of: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([each[name] for each in of])) for name in of[0]}


def prepare(data: Path, overrides: Sequence[str]) -> list[dict[str, str]]:
    """Copy the images, divide them once, and return the rows of all later listings: path, label and split."""
    shutil.copytree(data, "images")
    project.configure(["data=folder", "data.raw=images", *overrides])
    project.run("prepare")
    rows = [row for row in records.read_csv(paths.MANIFEST) if row["split"]]
    return [{"path": f"images/{row['path']}", "label": row["label"], "split": row["split"]} for row in rows]


def thinned(rows: Sequence[Row], share: float) -> list[Row]:
    """Return the rows with a share of each class's training images, one at least; larger shares hold smaller ones."""
    kept = [row for row in rows if row["split"] != "train"]
    of: dict[str, list[Row]] = {}
    for row in rows:
        if row["split"] == "train":
            of.setdefault(row["label"], []).append(row)
    for own in of.values():
        drawn = sorted(own, key=lambda row: row["path"])
        random.Random(0).shuffle(drawn)  # noqa: S311 -- a seeded draw
        kept += drawn[: max(1, round(share * len(drawn)))]
    return kept


def run(rows: Sequence[Row], overrides: Sequence[str], other: Path | None = None, *, cold: bool = False) -> Trial:
    """Train both phases on the listed images and test them; the rule that keeps phase 2's start is off.

    Args:
        rows: path, label and split of each image.
        overrides: of the configuration.
        other: folder of images to probe the features with.
        cold: whether the features are extracted anew, so that their time is in that of the phase.
    """
    records.write_csv(Path(LISTING), ("path", "label", "split"), rows)
    if cold:
        shutil.rmtree("cache", ignore_errors=True)
    settings = project.configure(["data=folder", f"data.raw={LISTING}", "data.min_per_class=1", *overrides])
    seconds = {"phase1": _head(rows, settings, cold=cold)}
    with _start_not_kept() as verdicts:
        begin = time.process_time()
        project.run("phase2_finetune")
        seconds["phase2"] = time.process_time() - begin
    history = {phase: records.read_csv(paths.history(folder.name)) for phase, folder in paths.PHASES.items()}
    found = Trial(*_tested(settings), seconds, history, bool(verdicts and verdicts[-1]), _drift())
    if other:
        loaded = {phase: model.load(folder) for phase, folder in paths.PHASES.items()}
        found.probe, found.imagenet = probed(loaded, other)
    keras.backend.clear_session()
    return found


def _head(rows: Sequence[Row], settings: schema.Project, *, cold: bool) -> float:
    """Run the pipeline up to phase 1, and return the seconds that phase 1 took.

    Where a trial with the same images and the same phase 1 has run it, what it has left is taken, unless the features
    shall be extracted anew.
    """
    groups = ("data", "image", "augment", "backbone", "head", "phase1", "compute")
    made_of = [rows, {group: asdict(getattr(settings, group)) for group in groups}]
    kept = HEADS / hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:16]
    for folder in OF_PHASE1:
        shutil.rmtree(folder, ignore_errors=True)
    if kept.is_dir() and not cold:
        for folder in OF_PHASE1:
            shutil.copytree(kept / folder, folder)
        return float(records.read_json(kept / "seconds.json")["seconds"])
    for stage in ("environment", "prepare"):
        project.run(stage)
    begin = time.process_time()
    project.run("phase1_head")
    seconds = time.process_time() - begin
    for folder in OF_PHASE1:
        shutil.copytree(folder, kept / folder, dirs_exist_ok=True)
    records.write_json(kept / "seconds.json", {"seconds": seconds})
    return seconds


@contextmanager
def _start_not_kept() -> Iterator[list[bool]]:
    """Keep phase 2's best epoch also where it is worse than the start, and tell of each training whether it was."""
    rule, said = improvement.compare, list[bool]()

    def compare(*given: Any) -> improvement.Change:
        change = rule(*given)
        said.append(change.is_worse)
        return replace(change, error=float("inf"))

    with mock.patch.object(improvement, "compare", compare):
        yield said


def _tested(settings: schema.Project) -> tuple[dict[str, np.ndarray], np.ndarray]:
    (test,) = manifest.read(settings.data.raw, "test")
    classifiers = [model.load(folder) for folder in paths.PHASES.values()]
    said = evaluate.probabilities(classifiers, test, settings.evaluate.batch_size)
    right = {phase: own.argmax(axis=1) == test.labels for phase, own in zip(paths.PHASES, said, strict=True)}
    return right, np.unique(manifest.independent(test), return_inverse=True)[1]


def _drift() -> float:
    files = [paths.embeddings(folder, "val") for folder in paths.PHASES.values()]
    if not all(path.is_file() for path in files):
        return 0.0  # nothing was unfrozen
    before, after = (np.load(path)["rows"].astype(np.float64) for path in files)
    lengths = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
    return float(1 - ((before * after).sum(axis=1) / np.maximum(lengths, 1e-12)).mean())


def probed(classifiers: Mapping[str, model.Classifier], other: Path) -> tuple[dict[str, float], dict[str, float]]:
    """Return what two backbones still tell of other images; the heads are not asked.

    Args:
        classifiers: by phase.
        other: folder with one folder per class.

    Returns:
        By phase the accuracy of a linear model of the backbone's features, out of fold; and ``forgotten``.
    """
    folders = sorted(folder for folder in other.iterdir() if folder.is_dir())
    files = {folder: sorted(path for path in folder.iterdir() if path.is_file()) for folder in folders}
    each = PROBED // len(folders)
    chosen = [(path, number) for number, folder in enumerate(folders) for path in files[folder][:each]]
    labels = np.array([number for _, number in chosen])
    images, hashes = [str(path) for path, _ in chosen], [records.sha256(path) for path, _ in chosen]
    batches = list(manifest.pixels(classifiers["phase1"].card.image, images, hashes, 32))
    accuracy: dict[str, float] = {}
    features: dict[str, np.ndarray] = {}
    for phase, classifier in classifiers.items():
        run_one = predictions.predictor(classifier)
        features[phase] = np.concatenate([run_one(pixels)[1] for pixels in batches]).astype(np.float32)
        said = out_of_fold.probabilities(features[phase].__getitem__, labels, len(folders), 0)
        accuracy[phase] = float((np.concatenate(list(said)).argmax(axis=1) == labels).mean())
    head = imagenet_head(classifiers["phase1"].card.backbone.name)
    return accuracy, forgotten(features["phase1"], features["phase2"], *head) if head else {}


def imagenet_head(name: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Return kernel and bias of the layer that tells ImageNet's 1,000 classes, (1000, channels) and (1000,).

    Only checkpoints of EfficientNet-Lite have it in the file that the backbone's weights come from.
    """
    row = backbones.row(name)
    if not isinstance(row, backbones.Lite):
        return None
    tensors = torch_checkpoint.read(efficientnet_lite.package_file(row), row.sha256)
    return tensors["_fc.weight"], tensors["_fc.bias"]


def forgotten(before: np.ndarray, after: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> dict[str, float]:
    """Return what became of a layer's answers when the features before it changed.

    Args:
        before, after: pooled features of the same images, (images, channels).
        kernel: (classes, channels).
        bias: (classes,).

    Returns:
        ``same answer``, the share of images with the same likeliest class, and ``KL``, the mean divergence of the
        probabilities after from those before, in nats.
    """
    logits = [rows.astype(np.float64) @ kernel.astype(np.float64).T + bias for rows in (before, after)]
    first, second = (special.log_softmax(each, axis=1) for each in logits)
    divergence = float((np.exp(first) * (first - second)).sum(axis=1).mean())
    return {"same answer": float((first.argmax(axis=1) == second.argmax(axis=1)).mean()), "KL": divergence}
