"""The Python API: ``thaw.fit`` makes and runs a project, ``thaw.load`` opens an exported model.

Both are façades over what the commands do: a fitted model is a DVC project in a folder, run by its stages, and its run
is in MLflow.
"""

import contextlib
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

import numpy as np
import yaml
from PIL import Image

from thaw import notebook, paths
from thaw.exports import exported, formats
from thaw.images import content, decoding
from thaw.images.integrity import Unusable
from thaw.project import create, pipeline_run

Picture: TypeAlias = "str | Path | bytes | Image.Image | np.ndarray"
SUFFIX = "-thaw"  # of the project's folder, after the name of the images


@dataclass
class Run:
    """A project that was run."""

    folder: Path

    def evaluate(self) -> dict[str, Any]:
        """Return what the held-out test says: by phase accuracy with its interval, verdict, report, model."""
        return pipeline_run.outcome(self.folder)

    @cached_property
    def predictor(self) -> "Predictor":
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


class Predictor:
    """An exported model. It reads images as training did, and needs TensorFlow only for formats that do.

    Examples:
        >>> import thaw
        >>> model = thaw.load("flowers-thaw")
        >>> model.predict_proba(["new.png", Path("new.png").read_bytes()]).shape
        (2, 2)
        >>> model.predict(np.full((2, 32, 32, 3), (40, 200, 40), np.uint8)).tolist()
        ['green', 'green']
    """

    def __init__(self, model: exported.Exported) -> None:
        self._model = model

    @property
    def labels(self) -> list[str]:
        """The classes, in the order of the columns of ``predict_proba``."""
        return list(self._model.classes)

    def predict(self, images: "Picture | Iterable[Picture]") -> np.ndarray:
        """Return the likeliest class of each image: (n,) text.

        Args:
            images: one or more: paths, the bytes of files, PIL images, or uint8 arrays of (height, width) or (height,
                width, 3); an array of (n, height, width, 3) is n images.

        Raises:
            ValueError: one can't be used; its place and the reason.
        """
        found: np.ndarray = np.array(self.labels)[self.predict_proba(images).argmax(axis=1)]
        return found

    def predict_proba(self, images: "Picture | Iterable[Picture]") -> np.ndarray:
        """Return the probabilities for each image: (n, classes) float32; ``images`` and errors as in ``predict``."""
        rows: list[np.ndarray] = []
        batch: list[bytes] = []
        for place, image in enumerate(_each(images)):
            batch.append(self._encoded(place, image))
            if len(batch) == exported.BATCH:
                rows.append(self._model.answer(batch))
                batch = []
        rows += [self._model.answer(batch)] if batch else []
        return np.concatenate(rows) if rows else np.zeros((0, len(self.labels)), np.float32)

    def _encoded(self, place: int, image: Picture) -> bytes:
        """Return the bytes of a file for an image, judged as ``prepare`` judges a file."""
        reading = self._model.reading
        try:
            data = content.read(Path(image)) if isinstance(image, str | Path) else _file(image)
            return decoding.servable(data, reading.max_pixels, stretch=reading.stretch)
        except (Unusable, ValueError) as refused:
            reason = refused.reason if isinstance(refused, Unusable) else str(refused)
            named = f" ({image})" if isinstance(image, str | Path) else ""
            raise ValueError(f"image {place}{named}: {reason}") from None


def _each(images: "Picture | Iterable[Picture]") -> Iterator[Picture]:
    """Yield the images of what may be one or several."""
    alone = isinstance(images, str | Path | bytes | Image.Image)
    if alone or (isinstance(images, np.ndarray) and images.ndim in (2, 3) and images.dtype != object):
        yield images  # type: ignore[misc]
    else:
        yield from images  # type: ignore[misc]


def _file(image: "bytes | Image.Image | np.ndarray") -> bytes:
    """Return an image as the bytes of a file, without loss."""
    if isinstance(image, bytes):
        return image
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (3, 4)):
            raise ValueError(
                f"expected uint8 of (height, width), (height, width, 3) or 4, received {image.dtype} of {image.shape}"
            )
        image = Image.fromarray(image)
    if not isinstance(image, Image.Image):
        raise ValueError(f"expected a path, bytes, a PIL image or an array, received {type(image).__name__}")
    held = io.BytesIO()
    image.save(held, "PNG", compress_level=1)
    return held.getvalue()


def load(path: str | Path, name: str = "") -> Predictor:
    """Open an exported model.

    Args:
        path: a project, the folder models/export of one, or one of the formats in it.
        name: the format; empty: the one that is loaded first.

    Raises:
        ValueError: there is none, or it is damaged.
    """
    inside = Path(path) / paths.EXPORTED
    return Predictor(formats.load(inside if inside.is_dir() else Path(path), name))


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
    return run(data, Path(folder or f"{PurePosixPath(_where(data)).stem}{SUFFIX}").absolute(), choices)


def run(data: str | Path, folder: Path, choices: Mapping[str, Any], *, afresh: bool = False) -> Run:
    """Make a project on images where there is none, configure it, run it, and return the run.

    Args:
        data: a folder or a table of images, or an address.
        folder: the project.
        choices: as ``fit`` takes them.
        afresh: forget what was chosen in the project before.

    Raises:
        ValueError: as ``fit`` does.
    """
    words = list(_words(choices))
    if (folder / "dvc.yaml").is_file():
        _check_images(folder, data)
        _configure(folder, [f"data.raw={_where(data)}", *words] if afresh else words, reset=afresh)
    else:
        create.make(folder, str(data), words)
    _reproduce(folder)
    return Run(folder)


def _reproduce(folder: Path) -> None:
    told = notebook.bar(pipeline_run.stages(folder)) if notebook.is_here() else None
    pipeline_run.reproduce(folder, told=told)


def _words(choices: Mapping[str, Any]) -> Iterator[str]:
    """Yield choices as a command line has them, options before fields."""
    for group, value in choices.items():
        if not isinstance(value, Mapping):
            yield f"{group}={value}"
    for group, value in choices.items():
        for field, each in value.items() if isinstance(value, Mapping) else ():
            text = yaml.safe_dump(each, default_flow_style=True, width=10**6).removesuffix("...\n").strip()
            yield f"{group}.{field}={text}"


def _configure(folder: Path, words: list[str], *, reset: bool = False) -> None:
    from thaw.config import load as configuration  # noqa: PLC0415 -- Hydra, which prediction does without

    with contextlib.chdir(folder):
        configuration.configure(words, reset=reset)


def _where(data: str | Path) -> str:
    """Return an address as it is, and a path as a whole one."""
    return str(data) if paths.is_remote(str(data)) else Path(data).absolute().as_posix()


def _check_images(folder: Path, data: str | Path) -> None:
    """Require that a project is one on these images."""
    raw = yaml.safe_load((folder / paths.PARAMS).read_text(encoding="utf-8"))["data"]["raw"]
    there, asked = str(raw), _where(data)
    if not paths.is_remote(there):
        there, asked = str((folder / there).resolve()), str(Path(asked).resolve())
    if there != asked:
        raise ValueError(f"folder: expected a new one, or a project on {data}, received {folder} on those of {raw}")
