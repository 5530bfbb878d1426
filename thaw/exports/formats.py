"""The table of export formats: how each is told, written, loaded and asked. No TensorFlow before one is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from thaw.catalog import export_formats
from thaw.exports import hashes, keras_file, litert_file, litert_int8, onnx_file, onnx_int8, saved_model
from thaw.exports.exported import Answer, Deployed, Exported, ForeignError

Probe = Callable[[Path, Sequence[str]], Sequence[Answer]]  # the model's path and image files → an answer each


@dataclass(frozen=True)
class Format:
    """One format of deployment."""

    about: export_formats.Format
    write: Callable[[Path, Deployed], None]
    load: Callable[[Path], Exported]
    is_one: Callable[[Path], bool]  # whether a path of any name is such a file or folder
    classes: str  # the place where it names its classes, for people
    probes: Mapping[str, Probe] = field(default_factory=dict)  # ways to ask it besides what ``load`` gives, by name

    def ways(self, name: str) -> list[str]:
        """Return what each way to ask it is called, that of ``load`` first."""
        return [name, *(f"{name}_{probe}" for probe in self.probes)]


FORMATS = {
    "keras": Format(
        export_formats.FORMATS["keras"],
        keras_file.write,
        keras_file.load,
        keras_file.is_one,
        keras_file.CLASSES,
    ),
    "saved_model": Format(
        export_formats.FORMATS["saved_model"],
        saved_model.write,
        saved_model.load,
        saved_model.is_one,
        saved_model.CLASSES,
        {"images": saved_model.ask_pixels},
    ),
    "onnx": Format(
        export_formats.FORMATS["onnx"], onnx_file.write, onnx_file.load, onnx_file.is_one, onnx_file.CLASSES
    ),
    "litert": Format(
        export_formats.FORMATS["litert"], litert_file.write, litert_file.load, litert_file.is_one, litert_file.CLASSES
    ),
    "litert_float16": Format(
        export_formats.FORMATS["litert_float16"],
        litert_file.write_float16,
        litert_file.load,
        litert_file.is_one,
        litert_file.FLOAT16_CLASSES,
    ),
    "litert_int8": Format(
        export_formats.FORMATS["litert_int8"],
        litert_int8.write,
        litert_file.load,
        litert_file.is_one,
        litert_int8.CLASSES,
    ),
    "onnx_int8": Format(
        export_formats.FORMATS["onnx_int8"],
        onnx_int8.write,
        onnx_file.load,
        onnx_file.is_one,
        onnx_int8.CLASSES,
    ),
}
# Which one is asked where several are there: exact ones before others, fast ones before slow ones.
PREFERRED = ("onnx", "litert", "saved_model", "keras", "litert_float16", "onnx_int8", "litert_int8")


def present(folder: Path) -> dict[str, Format]:
    """Return the formats that lie in a folder, by name."""
    return {name: form for name, form in FORMATS.items() if form.is_one(folder / form.about.file)}


def load(path: Path, name: str = "") -> Exported:
    """Load what the stage `export` wrote.

    Args:
        path: the folder that it wrote, or one of the formats in it.
        name: the format; empty: the first of ``PREFERRED`` that is there.

    Raises:
        ValueError: there is no exported model, or it is damaged.
    """
    if name and name not in FORMATS:
        raise ValueError(f"{path}: expected a format of {', '.join(FORMATS)}, received {name!r}")
    forms = [FORMATS[each] for each in ([name] if name else PREFERRED)]
    for form in forms:
        for each in (path / form.about.file, path):
            if form.is_one(each):
                return _whole(form.load, each)
    if name and (there := present(path)):
        raise ValueError(
            f"{path}: expected format {name} ({FORMATS[name].about.file}), found {', '.join(there)}; ask for one of "
            "these (--format), or add it to export.formats and run `dvc repro export`"
        )
    files = (form.about.file for form in forms)
    names = " or ".join(file if Path(file).suffix else f"{file}/" for file in files)
    raise ValueError(
        f"{path}: expected an exported model ({names}), found none; run `dvc repro`, or name the folder that has one "
        "(--model)"
    )


def _whole(read: Callable[[Path], Exported], path: Path) -> Exported:
    """Load a model that is there: where a part is missing or cut off, errors of many classes are raised."""
    hashes.check(path)
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
