"""The folder of a version in MLflow's registry: a model from code, with signature and input example, and no pickle.

``python -m thaw.tracking.model_version MODEL FOLDER`` writes FOLDER for an exported ONNX file. It needs pandas, which
MLflow was imported without where a stage runs.
"""

import base64
import sys
from importlib.metadata import version as installed
from io import BytesIO
from pathlib import Path

from PIL import Image

from thaw import records

SHA256 = "thaw.model_sha256"  # of the ONNX file: its key in the version's configuration, and the version's tag
# What a version needs where it is served; thaw's own code goes with it.
REQUIREMENTS = ("numpy", "onnxruntime", "pillow")
PACKAGE = Path(__file__).resolve().parents[1]
CODE = PACKAGE / "serving" / "scoring.py"


def write(model: Path, folder: Path) -> None:
    """Write the folder for an exported ONNX file."""
    import mlflow  # noqa: PLC0415 -- seconds
    from mlflow.types.schema import AnyType, ColSpec, Map, Schema  # noqa: PLC0415

    signature = mlflow.models.ModelSignature(
        Schema([ColSpec(AnyType(), "image")]),  # type: ignore[no-untyped-call]
        Schema(
            [
                ColSpec("string", "label", required=False),
                ColSpec("double", "probability", required=False),
                ColSpec(Map("double"), "probabilities", required=False),
                ColSpec("double", "unfamiliarity", required=False),
                ColSpec("string", "error", required=False),
            ]
        ),
    )
    mlflow.pyfunc.save_model(
        folder,
        python_model=str(CODE),
        artifacts={"model": str(model)},
        model_config={SHA256: records.sha256(model)},
        code_paths=[str(PACKAGE)],
        signature=signature,
        input_example={"image": [_example()]},
        pip_requirements=[f"{name}=={installed(name)}" for name in REQUIREMENTS],
    )


def _example() -> str:
    """Return a small grey image in base64, as a request to a server has it."""
    buffer = BytesIO()
    Image.new("RGB", (32, 32), "grey").save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]))
