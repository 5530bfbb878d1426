"""ThawClassifier beside scikit-learn: what the stages would leave is left by a stand-in, the rest is real."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import estimator_checks

import thaw
from tests.conftest import make_images
from tests.serving import tiny
from thaw import paths
from thaw.api import runs
from thaw.data import table
from thaw.project import pipeline_run

# Checks that give no rows of numbers to ``fit``.
CHECKS = (
    estimator_checks.check_no_attributes_set_in_init,
    estimator_checks.check_parameters_default_constructible,
    estimator_checks.check_get_params_invariance,
    estimator_checks.check_set_params,
    estimator_checks.check_estimator_cloneable,
    estimator_checks.check_estimator_repr,
    estimator_checks.check_do_not_raise_errors_in_init_or_set_params,
    estimator_checks.check_mixin_order,
    estimator_checks.check_valid_tag_types,
    estimator_checks.check_estimator_tags_renamed,
)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths of twelve red images, then of twelve green ones; a run takes no time."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(pipeline_run, "reproduce", tiny.leave)
    return sorted(map(str, make_images(tmp_path / "images", 2).rglob("*.png")))


LABELS = ["red"] * 12 + ["green"] * 12


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_it_is_an_estimator_as_scikit_learn_checks_them(check) -> None:  # type: ignore[no-untyped-def]
    check("ThawClassifier", thaw.ThawClassifier(phase2={"epochs": 3}))


def test_it_predicts_by_the_model_that_its_run_has_exported(files: list[str]) -> None:
    classifier = thaw.ThawClassifier()
    with pytest.raises(NotFittedError):
        classifier.predict(files)
    assert classifier.fit(files, LABELS) is classifier
    assert classifier.classes_.tolist() == ["green", "red"]
    assert classifier.predict_proba(files).shape == (24, 2)
    assert classifier.predict(np.array(files)[:, None]).tolist() == LABELS
    assert classifier.score(files, LABELS) == 1.0
    assert classifier.predict(np.full((1, 9, 9, 3), (0, 250, 0), np.uint8)).tolist() == ["green"]
    travelled = pickle.loads(pickle.dumps(classifier))
    assert travelled.predict(files[:1]).tolist() == ["red"]


def test_labels_that_a_spreadsheet_would_run_stay_what_they_are(files: list[str], tmp_path: Path) -> None:
    labels = ["-1", *["@red"] * 11, *["=green"] * 12]
    thaw.ThawClassifier(folder=tmp_path / "mine").fit(files, labels)
    entries, _ = table.read(tmp_path / "mine" / runs.LISTED)
    assert [entry.label for entry in entries] == labels


def test_a_file_that_is_drawn_again_weighs_as_often_as_it_is_there(files: list[str], tmp_path: Path) -> None:
    drawn = [files[0], files[0], *files[1:], files[-1], files[0]]
    labels = [*LABELS[:1] * 2, *LABELS[1:], LABELS[-1], LABELS[0]]
    classifier = thaw.ThawClassifier(folder=tmp_path / "mine").fit(drawn, labels)
    entries, _ = table.read(tmp_path / "mine" / runs.LISTED)
    assert [(entry.path, entry.weight) for entry in entries] == [
        (path, 3.0 if path == files[0] else 2.0 if path == files[-1] else 1.0) for path in files
    ]
    classifier.fit([files[0], *files], ["green", *LABELS])  # which the run refuses: one file, two labels
    with pytest.raises(ValueError, match="expected each file once"):
        table.read(tmp_path / "mine" / runs.LISTED)


def test_cross_validation_search_and_pipelines_take_it(files: list[str], tmp_path: Path) -> None:
    classifier = thaw.ThawClassifier(image="px64")
    assert cross_val_score(classifier, files, LABELS, cv=3).tolist() == [1.0, 1.0, 1.0]
    assert cross_val_score(classifier, np.array(files), LABELS, cv=2).tolist() == [1.0, 1.0]
    search = GridSearchCV(classifier, {"phase2": [{"epochs": 5}, {"epochs": 7}]}, cv=2).fit(files, LABELS)
    assert search.best_params_ == {"phase2": {"epochs": 5}}
    pipeline = make_pipeline(FunctionTransformer(), clone(classifier)).fit(files, LABELS)
    assert pipeline.predict(files).tolist() == LABELS
    del search, pipeline
    assert not list(tmp_path.glob("thaw-*"))  # the projects went with their estimators


def test_a_named_folder_is_a_project_that_is_fitted_afresh(files: list[str], tmp_path: Path) -> None:
    def params() -> dict[str, object]:
        text = (tmp_path / "mine" / paths.PARAMS).read_text(encoding="utf-8")
        found: dict[str, dict[str, object]] = yaml.safe_load(text)
        return found["phase1"] | {"raw": found["data"]["raw"]}

    classifier = thaw.ThawClassifier(tmp_path / "mine", phase1={"epochs": 7}).fit(files, LABELS)
    assert params()["epochs"] == 7 and params()["raw"] == runs.LISTED.as_posix()
    classifier.set_params(phase1={"batch_size": 8}).fit(files[::2], LABELS[::2])
    assert params()["epochs"] == 30 and params()["batch_size"] == 8
    assert (tmp_path / "mine" / runs.LISTED).read_text(encoding="utf-8").count("\n") == 13
    assert classifier.run_.folder == tmp_path / "mine"


def test_home_is_expanded(files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    classifier = thaw.ThawClassifier().fit([f"~/{Path(file).relative_to(tmp_path)}" for file in files], LABELS)
    assert classifier.predict(["~/images/class_0/00.png"]).tolist() == ["red"]


def test_a_file_beside_the_project_stays_what_it_is(files: list[str], tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("of the user")
    thaw.ThawClassifier(tmp_path / "mine").fit(files, LABELS)
    assert (tmp_path / "mine.csv").read_text() == "of the user"


def test_a_choice_that_is_refused_leaves_the_table_as_it_was(files: list[str], tmp_path: Path) -> None:
    classifier = thaw.ThawClassifier(tmp_path / "mine").fit(files, LABELS)
    before = (tmp_path / "mine" / runs.LISTED).read_bytes()
    with pytest.raises(ValueError, match=r"phase1\.epochs"):
        classifier.set_params(phase1={"epochs": -1}).fit(files[::2], LABELS[::2])
    assert (tmp_path / "mine" / runs.LISTED).read_bytes() == before


def test_labels_may_be_numbers_and_columns_follow_them(files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(folder: Path, **_: object) -> None:
        tiny.leave(folder)
        tiny.write(folder / paths.EXPORTED / paths.ONNX_FILE, classes=["10", "9"])  # in the order of texts

    monkeypatch.setattr(pipeline_run, "reproduce", leave)
    classifier = thaw.ThawClassifier().fit(files, [9] * 12 + [10] * 12)
    assert classifier.classes_.tolist() == [9, 10]
    assert classifier.predict(files).tolist() == [9] * 12 + [10] * 12
    assert (classifier.predict_proba(files)[:12, 0] > 0.5).all()


@pytest.mark.parametrize(
    ("images", "labels", "said"),
    [
        (np.zeros((4, 3)), [0, 1, 0, 1], r"X: expected the paths of images, \(n,\) or \(n, 1\), received an array of"),
        (["a.png", "b.png"], ["x", "x"], "y: expected 2 classes or more"),
        (["a.png", "b.png"], ["x", None], r"y: expected a label for each image, received none for 1 \(first at 1\)"),
        (["a.png", "b.png"], [float("nan"), 1.0], r"received none for 1 \(first at 0\)"),
        (["a.png", "b.png"], ["x"], r"y: expected a label for each of 2 images, received \(1,\)"),
        (["a.png", "b.png"], [0.5, 0.7], "Unknown label type"),
    ],
)
def test_what_are_no_paths_or_no_classes_is_refused(images: Any, labels: list[object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        thaw.ThawClassifier().fit(images, labels)
