"""The exported model as MLflow serves it: a model from code, which MLflow copies and runs; nothing is unpickled.

Images come as bytes, or as base64, in the column ``image``. An image that can't be used has an ``error`` in one line
in its row, and takes nothing from the others: MLflow would answer an exception with its traceback. Without the column
there is no row that could say so, and that is an exception. So is a file that is not the one that was registered.
"""

import base64
import binascii
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from thaw import records
from thaw.exports import formats
from thaw.exports.exported import Exported
from thaw.images.integrity import Unusable
from thaw.serving import answers
from thaw.tracking import model_version

IMAGE = "image"


def load(path: Path, expected: str) -> Exported:
    """Load the file of a version.

    Args:
        path: where MLflow has put it.
        expected: its hex sha256, as the version's MLmodel has it.

    Raises:
        ValueError: it is another file.
    """
    if (received := records.sha256(path)) != expected:
        raise ValueError(
            f"{path}: expected the model that was registered (sha256 {expected:.12}…, by the version's MLmodel), "
            f"received another one ({received:.12}…); download the version again, or take another version"
        )
    return formats.load(path)


def rows(model: Exported, given: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield for each image ``label``, ``probability``, ``probabilities`` by class and ``unfamiliarity``, which is None
    where the model has no such score; or ``error``.

    Args:
        given: a table of pandas, or columns by name.

    Raises:
        ValueError: there is no column ``image``.
    """
    if IMAGE not in given:
        raise ValueError(
            f"expected the column {IMAGE} with bytes or base64, received {', '.join(map(str, given)) or 'no column'}; "
            f"name it {IMAGE}"
        )

    def row(value: Any) -> dict[str, Any]:
        told: dict[str, Any] = dict.fromkeys(("label", "probability", "probabilities", "unfamiliarity", "error"))
        try:
            answer = answers.say(model, _bytes(value))
        except Unusable as refused:
            kind = refused.kind.replace("_", " ")
            return told | {"error": f"expected an image, received one that is {kind}: {refused.reason}"}
        except MemoryError:
            return told | {"error": "expected memory for the image, received too little; send a smaller image"}
        except Exception as error:  # MLflow would answer it with its traceback
            return told | {"error": " ".join(str(error).split()) or type(error).__name__}
        said = answers.told(model.classes, answer, None)
        return told | {name: said[name] for name in told if name in said}

    yield from answers.in_order(row, given.get(IMAGE, ()), answers.workers(model))


def _bytes(value: Any) -> bytes:
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if not isinstance(value, str):
        raise ValueError(
            f"expected bytes or base64 as {IMAGE}, received {type(value).__name__}; encode the file's bytes"
        )
    try:
        return base64.b64decode(value.rpartition(",")[2] if value.startswith("data:") else value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(
            f"expected base64 as {IMAGE}, received what is none ({error}); encode the file's bytes"
        ) from None


def _for_mlflow() -> None:
    """Tell MLflow what the model is."""
    import mlflow  # noqa: PLC0415 -- seconds
    import pandas as pd  # type: ignore[import-untyped]  # noqa: PLC0415

    class Classifier(mlflow.pyfunc.PythonModel):  # type: ignore[misc, name-defined]  # mlflow's names are lazy
        """An exported model of one file."""

        def load_context(self, context: Any) -> None:
            """Load the file, if it is the one that was registered."""
            self.model = load(Path(context.artifacts["model"]), context.model_config[model_version.SHA256])

        def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> list[dict[str, Any]]:
            """Return a row an image."""
            return list(rows(self.model, model_input))

    mlflow.models.set_model(Classifier())


if not __name__.startswith("thaw."):  # MLflow runs this file under a name of its own
    _for_mlflow()
