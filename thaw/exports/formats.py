"""The table of export formats: how each is told, written, loaded and asked. No TensorFlow before one is."""

import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from thaw import paths
from thaw.catalog import export_formats
from thaw.exports import keras_file, saved_model
from thaw.exports.exported import Deployed, Exported, ForeignError

# The model's path and image files → (images, classes) float32 probabilities, and the label that it gives each.
Probe = Callable[[Path, Sequence[str]], tuple[np.ndarray, list[str]]]


@dataclass(frozen=True)
class Format:
    """One format of deployment."""

    about: export_formats.Format
    write: Callable[[Path, Deployed], None]
    load: Callable[[Path], Exported]
    is_one: Callable[[Path], bool]  # whether a path of any name is such a file or folder
    classes: str  # the place where it names its classes, for people
    probes: Mapping[str, Probe]  # ways to ask it besides what ``load`` gives, by what they are called

    def ways(self, name: str) -> list[str]:
        """Return what each way to ask it is called, that of ``load`` first."""
        return [name, *(f"{name}_{probe}" for probe in self.probes)]


# `thaw predict` takes the last one that is there.
FORMATS = {
    "keras": Format(
        export_formats.FORMATS["keras"],
        keras_file.write,
        keras_file.load,
        lambda path: path.is_file() and (path.suffix == Path(paths.KERAS_FILE).suffix or zipfile.is_zipfile(path)),
        keras_file.CLASSES,
        {},
    ),
    "saved_model": Format(
        export_formats.FORMATS["saved_model"],
        saved_model.write,
        saved_model.load,
        lambda path: path.is_dir() and (path.name == paths.SAVED_MODEL or (path / "saved_model.pb").is_file()),
        saved_model.CLASSES,
        {"images": saved_model.ask_pixels},
    ),
}


def load(path: Path) -> Exported:
    """Load what the stage `export` wrote.

    Args:
        path: the folder that it wrote, or one of the formats in it.

    Raises:
        ValueError: there is no exported model, or it is damaged.
    """
    for form in reversed(FORMATS.values()):
        for each in (path / form.about.file, path):
            if form.is_one(each):
                return _whole(form.load, each)
    files = (form.about.file for form in reversed(FORMATS.values()))
    names = " or ".join(file if Path(file).suffix else f"{file}/" for file in files)
    raise ValueError(
        f"{path}: expected an exported model ({names}), found none; run `dvc repro`, or give its folder with --model"
    )


def _whole(read: Callable[[Path], Exported], path: Path) -> Exported:
    """Load a model that is there: where a part is missing or cut off, errors of many classes are raised."""
    try:
        return read(path)
    except (ForeignError, ImportError, MemoryError, PermissionError):
        raise
    except Exception as error:
        if "deserialize" in str(error):  # Keras's word, of a class that it does not know or can't build as told
            raise ValueError(
                f"{path}: expected a model of Keras's own layers, received one that can't be built from the file "
                f"({' '.join(str(error).split()):.200}); set export.formats=[saved_model], which needs no layer's "
                "code, and run `dvc repro export`"
            ) from error
        raise ValueError(
            f"{path}: expected a whole exported model, received a damaged one, which does not load; run "
            "`dvc repro export`, or copy it again if it is a copy"
        ) from error
