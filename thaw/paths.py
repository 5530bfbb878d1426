"""Every path of the project, relative to its root, where the stages run."""

import hashlib
import os
from pathlib import Path

CONF = Path("conf")
CHOSEN = CONF / "chosen.yaml"  # what was chosen on the command line
PARAMS = Path("params.yaml")
DVC_LOCK = Path("dvc.lock")

SAMPLE = Path("data/sample/digits")
PREPARED = Path("data/prepared")
MANIFEST = PREPARED / "manifest.csv"  # for people
MANIFEST_COLUMNS = PREPARED / "manifest.parquet"  # the same, which stages read
CLASSES = PREPARED / "classes.json"
QUARANTINE = PREPARED / "quarantine.csv"
COPIES = PREPARED / "copies.csv"
LEAKS = PREPARED / "leaks.csv"
MEMORY = Path("data/splits.json")
CONVERTED = PREPARED / "converted"

ENVIRONMENT = Path("models/environment.json")
PACKAGE = Path("models/package")  # in a project of one's own: the code of the installed package, a hash for each stage
PHASE1 = Path("models/phase1_head")
PHASE2 = Path("models/phase2_finetune")
PHASES = {"phase1": PHASE1, "phase2": PHASE2}
EVALUATION = Path("models/evaluate")
CURVES = EVALUATION / "curves.png"
SUSPECTS = EVALUATION / "suspects.csv"
REPORT = EVALUATION / "report.html"
DATA_REPORT = EVALUATION / "data.html"
CALIBRATION = EVALUATION / "calibration.json"
SLICES = EVALUATION / "slices.csv"
ROBUSTNESS = EVALUATION / "robustness.csv"
UNFAMILIAR = EVALUATION / "unfamiliar.npz"
EMBEDDINGS = EVALUATION / "embeddings.npy"  # of test images by the model to ship
MISTAKES = EVALUATION / "mistakes.csv"  # every test image answered wrongly
PICTURES = EVALUATION / "pictures.json"  # of some of them, with Grad-CAM, for the report
EMBEDDING_MAP = EVALUATION / "embedding_map.json"
CONFIGURATION = EVALUATION / "configuration.json"  # what was evaluated
FROM_SCRATCH = EVALUATION / "from_scratch.csv"  # the figures of its epochs, where that was asked for
MODEL_CARD = EVALUATION / "model_card.md"
EXPORTED = Path("models/export")
KERAS_FILE = "model.keras"  # these are in EXPORTED
SAVED_MODEL = "saved_model"
ONNX_FILE = "model.onnx"
LITERT_FILE = "model.tflite"
LITERT_FLOAT16_FILE = "model_float16.tflite"
LITERT_INT8_FILE = "model_int8.tflite"
ONNX_INT8_FILE = "model_int8.onnx"
LABELS = "labels.json"
HASHES = "hashes.json"

LEDGER = Path(".thaw/ledger.jsonl")
LATENCY = Path(".thaw/latency.json")
SWEEPS = Path(".thaw/sweeps")
REFUSED = Path(".thaw/refused_export")  # the last export that its proof has refused, to look at
CHECKPOINTS = Path(".thaw/checkpoints")  # of trainings that have not ended, and what other stages have done
LOCKS = Path(".thaw/locks")  # of what one process computes at a time
REHEARSED = Path(".thaw/rehearsed")  # networks from outside the catalog that all formats asked for can hold
UNREGISTERED = Path(".thaw/unregistered.json")  # what MLflow's registry lacks of the last export
RUNTIMES = Path(".thaw/runtimes")  # what `thaw demo` puts into its page
UPSTREAMS = Path(".thaw/upstreams")  # what sweeps have computed for their trials in common

METRICS = Path("metrics")
PROVENANCE = METRICS / "provenance.json"  # what a run has hung on
PER_CLASS = METRICS / "per_class.csv"
VERDICT = METRICS / "verdict.json"

REMOTE = Path(".thaw/remote")  # local copies of images in object stores

SPLITS = ("train", "val", "test")
TABLES = (".csv", ".parquet")  # endings of tables that list images


def metrics(stage: str) -> Path:
    """Return the file of the stage's metrics, kept in git."""
    return METRICS / f"{stage}.json"


def history(stage: str) -> Path:
    """Return the file of the stage's figures by epoch, kept in git."""
    return METRICS / f"{stage}_history.csv"


# The blocks of the backbone, and how much of each phase 2 trained.
BLOCKS = PHASE2 / "blocks.csv"


def out_of_sample(split: str) -> Path:
    """Return the out-of-fold probabilities of the images of "train" or "val": (images, classes).

    Those of training images, of which label errors are found, are float16; those of validation images, by which more
    is measured, float32.
    """
    return PHASE1 / f"out_of_sample_{split}.npy"


# How deep ``phase2.unfreeze=auto`` unfreezes, and why.
AUTO_DEPTH = PHASE1 / "auto_depth.json"


def validation(folder: Path) -> Path:
    """Return the probabilities of the validation images by the model in a phase's folder: (images, classes) float32.

    Phase 2 has none where nothing is unfrozen: its model is phase 1's.
    """
    return folder / "out_of_sample_val.npy"


def embeddings(folder: Path, split: str) -> Path:
    """Return the embeddings of images of "train" or "val" by the model in a phase's folder, as a phase leaves them.

    Phase 2 has none where nothing is unfrozen: its model is phase 1's.
    """
    return folder / f"embeddings_{split}.npz"


def predictions(phase: str) -> Path:
    """Return the file of a phase's ("phase1", "phase2") predictions for each test image."""
    return EVALUATION / f"predictions_{phase}.csv"


def probabilities(phase: str) -> Path:
    """Return the probabilities behind ``predictions``: (images, classes) float32, a row a line."""
    return EVALUATION / f"probabilities_{phase}.npy"


def confusion_picture(phase: str) -> Path:
    """Return the picture of actual against predicted classes of the test images."""
    return EVALUATION / f"confusion_{phase}.png"


def whole(path: str | Path) -> Path:
    """Return a path from the root on, with ``~`` at its start expanded; links in it stay."""
    return Path(os.path.abspath(os.path.expanduser(path)))  # noqa: PTH100, PTH111 -- Path follows links, and may raise


def is_there(path: Path) -> bool:
    """Return whether there is a file, or a folder with something in it that is not hidden.

    One without is that which ``thaw new`` makes for images to come.
    """
    return path.is_file() or (path.is_dir() and any(not each.name.startswith(".") for each in path.iterdir()))


def is_remote(raw: str) -> bool:
    """Return whether ``data.raw`` is an address in an object store, such as ``s3://bucket/prefix``."""
    return "://" in raw


def local(raw: str) -> Path:
    """Return the folder or table that is read: that of ``data.raw``, or the local copy of an address."""
    if not is_remote(raw):
        return Path(raw)
    folder, _, name = raw.rstrip("/").rpartition("/")
    inside = name if name.lower().endswith(TABLES) else ""
    address = (folder if inside else raw).rstrip("/")
    return main_root() / REMOTE / hashlib.sha256(address.encode()).hexdigest()[:16] / inside


def is_listing(raw: str) -> bool:
    """Return whether ``data.raw`` is a table that lists images, and no folder."""
    return local(raw).suffix.lower() in TABLES and not local(raw).is_dir()


def images_root(raw: str) -> Path:
    """Return the folder that the paths of the images of ``data.raw`` are relative to."""
    return local(raw).parent if is_listing(raw) else local(raw)


def converted(sha256: str) -> Path:
    """Return the PNG that is read in place of the file with this hash."""
    return CONVERTED / f"{sha256}.png"


def main_root() -> Path:
    """Return the repository that an isolated experiment was started from, or else the folder we are in.

    DVC runs an isolated experiment in a temporary copy and leaves the path of the main repository in ``DVC_ROOT``:
    what all runs share (the MLflow database, the activation cache) belongs there.
    """
    return Path(os.environ.get("DVC_ROOT") or ".").resolve()
