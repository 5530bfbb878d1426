"""Measure how well a model's score tells foreign images, far and near ones.

``python -m benchmarks.foreign --data DIR --near CLASS [--far DIR ...]``. Both phases are trained on the images without
one class, and evaluated as always. Near are the images of that class, which neither the model nor the score has seen;
far are the images of other folders, a folder per class or not, and noise. Flagged are those above the threshold that
comes of the validation images.
"""

import argparse
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks import project, record
from thaw import paths, pipes, records
from thaw.classifier import model
from thaw.evaluation import out_of_distribution, predictions
from thaw.images import manifest

IMAGES = (".jpg", ".jpeg", ".png")
PHASE = "phase2"
STAGES = ("environment", "prepare", "phase1_head", "phase2_finetune", "evaluate")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder with one folder per class")
    parser.add_argument("--near", required=True, metavar="CLASS", help="the class that is left out of the training")
    parser.add_argument("--far", type=Path, nargs="*", default=[], help="folders of other images")
    parser.add_argument("--most", type=int, default=400, help="images of a kind (default: %(default)s)")
    parser.add_argument("--set", nargs="*", default=[], dest="overrides", help="more of the configuration")
    options = parser.parse_args()
    data, far = options.data.resolve(), [folder.resolve() for folder in options.far]
    near = spread(data / options.near, options.most)
    with project.scratch():
        shutil.copytree(data, "images", ignore=shutil.ignore_patterns(options.near))
        project.configure(["data=folder", "data.raw=images", *options.overrides])
        for stage in STAGES:
            project.run(stage)
        classifier = model.load(paths.PHASES[PHASE])
        shape = (options.most // 4, *classifier.backbone.input_shape[1:])
        noise = np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)
        scores = {"noise": scored(classifier, [noise])}
        for folder in far:
            scores[folder.name] = scored(classifier, pixels(classifier, spread(folder, options.most)))
        scores[f"near: {options.near}"] = scored(classifier, pixels(classifier, near))
        known = out_of_distribution.load_scores(paths.UNFAMILIAR, PHASE)
        least = records.read_json(paths.CALIBRATION)[PHASE]["unfamiliar"]["threshold"]
    table = [row("the test itself", known, known, least)]
    table += [row(name, found, known, least) for name, found in scores.items()]
    record.write(f"foreign_{data.name}", f"{data.name} without {options.near}: what is called foreign", table)


def spread(folder: Path, most: int) -> list[Path]:
    """Return at most so many images of a folder and those in it, evenly spread over their names."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGES)
    if not files:
        raise ValueError(f"{folder}: expected images ({', '.join(IMAGES)}), found none")
    places = np.unique(np.linspace(0, len(files) - 1, min(most, len(files))).round().astype(int))
    return [files[place] for place in places.tolist()]


def pixels(classifier: model.Classifier, files: Sequence[Path]) -> Iterable[np.ndarray]:
    """Yield the images as the classifier gets them."""
    hashes = [records.sha256(file) for file in files]
    return manifest.pixels(classifier.card.image, [str(file) for file in files], hashes, 32)


def scored(classifier: model.Classifier, batches: Iterable[np.ndarray]) -> np.ndarray:
    """Return how unlike the training images some are, (images,)."""
    run_one = predictions.predictor(classifier)
    rows = np.concatenate([run_one(batch)[1] for batch in batches])
    return out_of_distribution.score(rows, out_of_distribution.load(paths.UNFAMILIAR, PHASE))


def row(name: str, found: np.ndarray, known: np.ndarray, least: float) -> dict[str, str | int | float]:
    """Return the share of some images that is flagged, and the area under the ROC curve against the test images."""
    foreign = np.repeat([0, 1], [len(known), len(found)])
    area = float(roc_auc_score(foreign, np.concatenate([known, found])))
    flagged = f"{(found > least).mean():.1%}"
    return {"images of": name, "images": len(found), "flagged": flagged, "ROC AUC": f"{area:.3f}"}


if __name__ == "__main__":
    pipes.run(main, "foreign", resumes=False)
