"""``thaw.ThawClassifier``: an estimator of scikit-learn, for its cross-validation, searches and pipelines.

It is a façade over ``thaw.fit``: each ``fit`` makes and runs a project, by the same stages, on a table of the images.
"""

import collections
import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeAlias

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from thaw import paths, records
from thaw.api import runs
from thaw.data import cells
from thaw.data.table import NEEDED

Choice: TypeAlias = "str | Mapping[str, Any] | None"
GROUPS = (
    "augment",
    "backbone",
    "compute",
    "data",
    "evaluate",
    "export",
    "head",
    "image",
    "phase1",
    "phase2",
    "tracking",
)


class ThawClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Fine-tune a pretrained network on the files of images.

    ``fit`` divides what it is given into images to train on, to validate on and to test on, as every run does; what
    is held out from ``fit``, such as a fold, it never sees. Folds of scikit-learn know no near-duplicates, which may
    then lie on both sides: give groups to the cross-validation where there are some.

    ``folder`` is the project, kept, with the table of its images as data/raw/images.csv. Empty: one that is
    removed with the estimator, as cross-validation needs it, whose folds must not share one. The other parameters
    are the groups of the configuration, each the name of an option or a dict of fields; None: the default. With
    ``compute={"cache_dir": …}`` folds share the activations of the frozen layers.

    After ``fit``, ``classes_`` has the labels, sorted, and ``run_`` is the ``thaw.Run``, with report, figures and
    exported model.

    Examples:
        >>> import thaw
        >>> from pathlib import Path
        >>> from sklearn.model_selection import cross_val_score
        >>> files = sorted(Path("flowers").rglob("*.png"))
        >>> labels = [file.parent.name for file in files]
        >>> classifier = thaw.ThawClassifier(image="px64", phase1={"epochs": 2}, phase2={"epochs": 2})
        >>> cross_val_score(classifier, files, labels, cv=2).shape
        (2,)
        >>> classifier.fit(files, labels).predict(["new.png"]).tolist()
        ['red']
        >>> classifier.classes_.tolist(), classifier.run_.report.path.name
        (['green', 'red'], 'report.html')
    """

    def __init__(
        self,
        folder: str | Path = "",
        *,
        augment: Choice = None,
        backbone: Choice = None,
        compute: Choice = None,
        data: Choice = None,
        evaluate: Choice = None,
        export: Choice = None,
        head: Choice = None,
        image: Choice = None,
        phase1: Choice = None,
        phase2: Choice = None,
        tracking: Choice = None,
    ) -> None:
        self.folder = folder
        self.augment = augment
        self.backbone = backbone
        self.compute = compute
        self.data = data
        self.evaluate = evaluate
        self.export = export
        self.head = head
        self.image = image
        self.phase1 = phase1
        self.phase2 = phase2
        self.tracking = tracking

    def fit(self, X: "Sequence[str | Path] | np.ndarray", y: "Sequence[Any] | np.ndarray") -> Self:  # noqa: N803
        """Make and run a project on images.

        Args:
            X: (n,) or (n, 1) paths of files. One that is there several times, as in a sample drawn with replacement,
                counts so many times in the loss, and has one label.
            y: (n,) labels, of any type that sorts.

        Raises:
            ValueError: these are no paths, labels are no classes, or images or a choice can't be used; one line.
        """
        files, labels = _paths(X), np.asarray(y)
        missing = [place for place, label in enumerate(labels.ravel().tolist()) if cells.is_nothing(label)]
        if missing:
            raise ValueError(
                f"y: expected a label for each image, received none for {len(missing):,} (first at {missing[0]}); "
                "label these images or leave them out"
            )
        check_classification_targets(labels)
        if labels.shape != (len(files),):
            raise ValueError(f"y: expected a label for each of {len(files):,} images, received {labels.shape}")
        self.classes_ = np.unique(labels)
        if len({str(label) for label in self.classes_}) < max(2, len(self.classes_)):
            raise ValueError(f"y: expected 2 classes or more, each with a name of its own, received {self.classes_}")
        folder = paths.whole(self.folder or _temporary(self))
        counts = collections.Counter(zip(files, map(str, labels), strict=True))
        heads = [*NEEDED, "weight"] if len(counts) < len(files) else NEEDED
        rows = (dict(zip(heads, (path, label, count), strict=False)) for (path, label), count in counts.items())
        choices = {name: getattr(self, name) for name in GROUPS if getattr(self, name) is not None}
        self.run_ = runs.fit_listed(
            lambda table: records.write_csv(table, heads, rows, guarded=False), folder, choices
        )
        return self

    def predict_proba(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return the probabilities for each image: (n, classes) float32, in the order of ``classes_``.

        Args:
            X: as in ``fit``; or PIL images, uint8 arrays or bytes, as ``thaw.Predictor.predict_proba`` takes them.
        """
        check_is_fitted(self)
        model = self.run_.predictor
        order = [model.labels.index(str(label)) for label in self.classes_]
        array = isinstance(X, np.ndarray) and X.dtype == np.uint8
        images = X if array or (not isinstance(X, np.ndarray) and not hasattr(X, "iloc")) else _paths(X)
        return model.predict_proba(images)[:, order]

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return the likeliest class of each image: (n,), of the labels' type; ``X`` as in ``predict_proba``."""
        likeliest = self.predict_proba(X).argmax(axis=1)
        found: np.ndarray = self.classes_[likeliest]
        return found

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.one_d_array = True
        tags.input_tags.string = True
        tags.no_validation = True
        return tags


def _paths(given: Any) -> list[str]:
    """Return the whole paths of files."""
    array = np.asarray(given, dtype=object)
    array = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    if array.ndim != 1 or not all(isinstance(each, str | Path) for each in array):
        raise ValueError(f"X: expected the paths of images, (n,) or (n, 1), received an array of {array.shape}")
    return [str(paths.whole(each)) for each in array]


def _temporary(estimator: ThawClassifier) -> Path:
    """Return the place of a project that goes with an estimator."""
    around = tempfile.mkdtemp(prefix="thaw-")
    weakref.finalize(estimator, shutil.rmtree, around, ignore_errors=True)
    return Path(around) / "project"
