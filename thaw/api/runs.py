"""The Python API: ``thaw.fit`` makes and runs a project, ``thaw.load`` opens an exported model.

Both are façades over what the commands do: a fitted model is a DVC project in a folder, run by its stages, and its run
is in MLflow.
"""

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import yaml

from thaw import paths
from thaw.api import notebook, overrides
from thaw.exports import formats
from thaw.project import create, pipeline_run
from thaw.serving.predictor import Picture, Predictor

LISTED = Path(create.RAW) / "images.csv"  # the table of a project on images that were listed by a program
SUFFIX = "-thaw"  # of the project's folder, after the name of the images


@dataclass
class Run:
    """A project that was run."""

    folder: Path

    def evaluate(self) -> dict[str, Any]:
        """Return what the held-out test says: by phase accuracy with its interval, verdict, report, model."""
        return pipeline_run.outcome(self.folder)

    @cached_property
    def predictor(self) -> Predictor:
        """The exported model."""
        return load(self.folder)

    def predict(self, images: "Picture | Iterable[Picture]") -> np.ndarray:
        """Return the label of each image: (n,) text; see ``Predictor.predict``."""
        return self.predictor.predict(images)

    def _repr_html_(self) -> str:
        """Show verdict, figures and pictures in a notebook."""
        return notebook.summary(self.evaluate(), self.folder)

    def __getstate__(self) -> dict[str, Any]:
        """Let a run travel as the name of its folder: an opened model can't."""
        return {"folder": self.folder}

    @property
    def report(self) -> "Report":
        """The report of the test, which a notebook shows inline."""
        return Report(self.folder / paths.REPORT)

    def export(self, *names: str) -> Path:
        """Return the folder of the exported model.

        Args:
            names: formats to write, such as "onnx"; none: those that are configured.

        Raises:
            ValueError: a format is unknown, or can't hold this network.
        """
        if names:
            _configure(self.folder, [f"export.formats=[{','.join(names)}]"])
            _reproduce(self.folder)
            self.__dict__.pop("predictor", None)
        return self.folder / paths.EXPORTED


@dataclass
class Report:
    """An HTML page; ``str`` gives its path."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def _repr_html_(self) -> str:
        """Show the page in a notebook, in a frame, so that its styles are its own."""
        text = self.path.read_text(encoding="utf-8").replace("&", "&amp;").replace('"', "&quot;")
        return f'<iframe srcdoc="{text}" width="100%" height="800" style="border:0"></iframe>'


def load(path: str | Path, name: str = "") -> Predictor:
    """Open an exported model.

    Args:
        path: a project, the folder models/export of one, or one of the formats in it.
        name: the format; empty: the one that is loaded first.

    Raises:
        ValueError: there is none, or it is damaged.
    """
    given = paths.whole(path)
    inside = given / paths.EXPORTED
    return Predictor(formats.load(inside if inside.is_dir() else given, name))


def fit(data: str | Path, /, *, folder: str | Path = "", **choices: Any) -> Run:
    """Fine-tune a pretrained network on images, as ``thaw new`` and ``thaw run`` do, and return the run.

    Args:
        data: a folder with one folder of images a class, a .csv or .parquet table, or either's address in an object
            store, such as s3://bucket/flowers.
        folder: the project, made where there is none; one on these images is run again with what changed. Empty: a
            folder beside you, named after the images.
        choices: options and fields of the configuration by group: ``backbone="resnet50"``, ``phase2={"epochs": 5}``.
            They are remembered in the project.

    Raises:
        ValueError: a choice is wrong, the images can't be used, or the folder is taken; one line.

    Examples:
        >>> import thaw
        >>> run = thaw.fit("flowers", folder="mine", image="px64", phase1={"epochs": 2}, phase2={"epochs": 2})
        >>> sorted(run.evaluate())
        ['model', 'phase1', 'phase2', 'report', 'ship', 'verdict']
        >>> 0 <= run.evaluate()["phase2"]["accuracy"] <= 1
        True
        >>> run.report.path.name
        'report.html'
    """
    if not isinstance(data, str | os.PathLike):
        raise ValueError(
            f"data: expected the path of a folder or table of images, received {data!r} ({type(data).__name__})"
        )
    create.check_named(str(data), "data")
    where, words = paths.whole(folder or f"{PurePosixPath(_where(data)).stem}{SUFFIX}"), list(overrides.words(choices))
    create.check_once(str(data), words)
    if (where / "dvc.yaml").is_file():
        _check_images(where, data)
        _configure(where, words)
    else:
        create.make(where, str(data), words, named="data")
    _reproduce(where)
    return Run(where)


def fit_listed(write: Callable[[Path], object], folder: Path, choices: Mapping[str, Any]) -> Run:
    """Fine-tune on the images of a table that lies in the project, and return the run.

    Args:
        write: writes the table to a path.
        folder: the project, made where there is none; in one on such a table, what was chosen before is forgotten.
        choices: as ``fit`` takes them.

    Raises:
        ValueError: as ``fit`` does.
    """
    words = list(overrides.words(choices))
    create.check_once(LISTED.as_posix(), words)
    words.insert(0, f"data.raw={LISTED.as_posix()}")
    if (folder / "dvc.yaml").is_file():
        _check_images(folder, folder / LISTED)
        _configure(folder, words, reset=True, before=lambda: write(folder / LISTED))
    else:
        create.make(folder, "", words)
        write(folder / LISTED)
    _reproduce(folder)
    return Run(folder)


def _reproduce(folder: Path) -> None:
    told = notebook.bar(pipeline_run.stages(folder)) if notebook.is_here() else None
    pipeline_run.reproduce(folder, told=told)


def _configure(
    folder: Path, words: list[str], *, reset: bool = False, before: Callable[[], object] = lambda: None
) -> None:
    """Choose in a project.

    Args:
        words: the choices.
        reset: forget those from before.
        before: called as soon as the choices are known to be right.
    """
    from thaw.config import composition, concurrency  # noqa: PLC0415 -- Hydra, which prediction does without

    with contextlib.chdir(folder):
        made = composition.make(words, reset=reset)
        concurrency.check_idle()
        before()
        pipeline_run.check_images(made.values()["data"]["raw"])  # what is refused is not remembered
        composition.remember(made)


def _where(data: str | Path) -> str:
    """Return an address as it is, and a path as a whole one."""
    return str(data) if paths.is_remote(str(data)) else paths.whole(data).as_posix()


def _check_images(folder: Path, data: str | Path) -> None:
    """Require that a project is one on these images."""
    raw = yaml.safe_load((folder / paths.PARAMS).read_text(encoding="utf-8"))["data"]["raw"]
    there, asked = str(raw), _where(data)
    if not paths.is_remote(there):
        there, asked = str((folder / there).resolve()), str(Path(asked).resolve())
    if there != asked:
        raise ValueError(f"folder: expected a new one, or a project on {data}, received {folder} on those of {raw}")
