"""The configuration's types, units and ranges: one dataclass per group of ``conf/``.

Values live in YAML only, so no field has a default. A range is checked in ``__post_init__``; what two groups must
agree on is checked by ``Project``. Nothing here imports TensorFlow. The backbone is in ``thaw.config.backbone``, the
two phases are in ``thaw.config.phases``, the test is in ``thaw.config.evaluation``, the images are in
``thaw.config.images``.

The comment at a field is its row in docs/configuration.md, which ``make docs`` writes. What stands before `` | `` is
its range, where neither ``between`` nor ``one_of`` checks that.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thaw.catalog import backbones, export_formats

# Under their own names, so that every group is found here.
from thaw.config.backbone import Backbone as Backbone  # noqa: PLC0414  how a type checker is told
from thaw.config.evaluation import Evaluate as Evaluate  # noqa: PLC0414
from thaw.config.images import Augment as Augment  # noqa: PLC0414
from thaw.config.images import Data as Data  # noqa: PLC0414
from thaw.config.images import Image as Image  # noqa: PLC0414
from thaw.config.phases import Phase1 as Phase1  # noqa: PLC0414
from thaw.config.phases import Phase2 as Phase2  # noqa: PLC0414
from thaw.config.ranges import between, one_of

POOLINGS = ("avg", "max")
DEVICES = ("auto", "cpu", "gpu")
EXTRACTORS = ("auto", "onnxruntime", "tensorflow")
FORMATS = tuple(export_formats.FORMATS)
SHIPPED = ("verdict", "phase1", "phase2")


@dataclass
class Head:
    """The layers put on the backbone: pooling, then dense layers with dropout, then logits."""

    pooling: str  # of the features, over height and width: their mean or their maximum
    units: list[int]  # 1 or more, each | width of each hidden layer; may be empty
    dropout: list[float]  # 0 to 0.95, each | dropout rate after each hidden layer, as many as `head.units`
    l2: float  # weight of the L2 penalty on the dense kernels

    def __post_init__(self) -> None:
        one_of(self, "pooling", POOLINGS)
        between(self, "l2", 0, 1)
        if len(self.units) != len(self.dropout):
            raise ValueError(
                f"head.dropout: expected one rate for each of the {len(self.units)} head.units, "
                f"received {len(self.dropout)}"
            )
        if any(units < 1 for units in self.units):
            raise ValueError(f"head.units: expected widths of 1 or more, received {self.units}")
        if any(not 0 <= rate <= 0.95 for rate in self.dropout):
            raise ValueError(f"head.dropout: expected rates from 0 to 0.95, received {self.dropout}")


@dataclass
class Compute:
    """What computes, the activation cache and the engine. DVC tracks device, devices, workers and deterministic.

    The rest changes last bits at most, but for one thing: whether ``phase2.activations=auto`` caches or streams, which
    the stage's record says.
    """

    cache_dir: str  # a folder, or empty | the activation cache; empty: `.thaw/activations` in the project
    cache_gb: float  # disk budget of the activation cache (10⁹ bytes)
    # a folder or an address such as `s3://bucket/prefix`, or empty | where machines share their activations, see
    # docs/cluster.md#activations-that-machines-share
    shared_cache: str
    shared_cache_gb: float  # budget of what lies there (10⁹ bytes)
    # `auto`, `local`, an address, or empty | the Ray cluster that looks at the images and passes them through the
    # frozen layers, see docs/cluster.md#one-run-on-a-ray-cluster; empty: none
    ray: str
    # engine of the frozen layers; `auto`: TensorFlow on a GPU or for more than 30 million parameters, else ONNX
    # Runtime
    extractor: str
    # 1 to 4096 images, `auto` | at once through the frozen layers; `auto`: 32, on a GPU 128
    extract_batch_size: Any
    # values of `phase2.unfreeze` | whose activations are kept too when images pass the frozen layers; a sweep names
    # all of its own here
    depths: list[str]
    # what computes: the first GPU where there is one, else the processor; `cpu`: the processor all the same; `gpu`:
    # without a GPU the first stage that would use it ends with an error
    device: str
    # 1 to 64, `all` | GPUs that share each batch of phase 2, see docs/cluster.md#one-training-on-several-gpus;
    # `phase2.batch_size` is still the whole batch; `all`: those that this machine has
    devices: Any
    # 1 to 64, `all` | processes, on machines of their own, that share each batch of phase 2, see
    # docs/cluster.md#one-training-on-several-machines;
    # `all`: as many as `TF_CONFIG` or Slurm name
    workers: Any
    # the same run gives the same bits; false: TensorFlow's operations may be faster, and last bits differ from run to
    # run, see docs/how-a-run-works.md#the-same-bits
    deterministic: bool

    def __post_init__(self) -> None:
        between(self, "cache_gb", 0, 100_000, "GB")
        between(self, "shared_cache_gb", 0, 1_000_000, "GB")
        if self.shared_cache and "://" not in self.shared_cache and not Path(self.shared_cache).is_absolute():
            raise ValueError(
                f"compute.shared_cache: expected an address or an absolute folder, received {self.shared_cache!r}"
            )
        if self.devices != "all" and not (type(self.devices) is int and 1 <= self.devices <= 64):
            raise ValueError(f"compute.devices: expected 1 to 64 GPUs or all, received {self.devices!r}")
        if self.workers != "all" and not (type(self.workers) is int and 1 <= self.workers <= 64):
            raise ValueError(f"compute.workers: expected 1 to 64 processes or all, received {self.workers!r}")
        if self.workers != 1 and self.devices not in (1, "all"):
            raise ValueError(
                f"compute.devices: expected 1 where several workers share a training, received {self.devices}; start "
                "a worker for each GPU"
            )
        one_of(self, "device", DEVICES)
        one_of(self, "extractor", EXTRACTORS)
        size = self.extract_batch_size
        if size != "auto" and not (type(size) is int and 1 <= size <= 4096):
            raise ValueError(f"compute.extract_batch_size: expected 1 to 4096 images or auto, received {size!r}")


@dataclass
class Export:
    """Formats of deployment, and how exactly they must agree with what was tested."""

    # `keras`, `saved_model`, `onnx`, `litert`, `litert_float16`, `litert_int8`, `onnx_int8` | one or more, see
    # docs/serving.md#formats
    formats: list[str]
    # largest difference of a probability between the exported and the evaluated model, of formats in float32
    tolerance: float
    int8_points: float  # accuracy that a format of float16 or int8 may lose, where a paired test finds a loss at all
    agreement: float  # least share of test images that a format of float16 or int8 answers as the evaluated model
    calibration: int  # training images by which int8 formats find their ranges
    probe: int  # test images, spread over all, that each format is asked about at most
    latency: bool  # whether size, cold start, latency, throughput and memory of each format are measured, for MLflow
    model: str  # the phase whose model is exported; `verdict`: the one that the test says to ship

    def __post_init__(self) -> None:
        one_of(self, "model", SHIPPED)
        between(self, "tolerance", 0, 0.1)
        between(self, "int8_points", 0, 100, "points of 100")
        between(self, "agreement", 0, 1)
        between(self, "calibration", 1, 10_000, "images")
        between(self, "probe", 1, 10**9, "images")
        unknown = [name for name in self.formats if name not in FORMATS]
        if unknown or not self.formats:
            raise ValueError(f"export.formats: expected some of {', '.join(FORMATS)}, received {self.formats}")


@dataclass
class Tracking:
    """The mirror of all runs in MLflow."""

    enabled: bool  # whether runs are written to MLflow
    # an MLflow tracking URI, or empty | empty: `mlflow.db` in the project; the variable `MLFLOW_TRACKING_URI` goes
    # before it
    uri: str
    experiment: str  # a name | MLflow's experiment

    def __post_init__(self) -> None:
        if not self.experiment:
            raise ValueError("tracking.experiment: expected a name, received an empty one")


@dataclass
class Project:
    """The whole of params.yaml."""

    compiled_from: str  # digest of the conf/ that params.yaml was compiled from
    data: Data
    image: Image
    augment: Augment
    backbone: Backbone
    head: Head
    phase1: Phase1
    phase2: Phase2
    compute: Compute
    evaluate: Evaluate
    export: Export
    tracking: Tracking

    def __post_init__(self) -> None:
        if self.data.val + self.data.test > 0.9:
            raise ValueError(
                "data.val + data.test: expected 0.9 at most, so that something is left to train on, "
                f"received {self.data.val + self.data.test:g}"
            )
        backbones.check_size(self.backbone.name, self.image.size)
        self._check_formats()
        self._check_scratch()
        if self.phase2.learning_rate >= self.phase1.learning_rate and not self.phase2.allow_high_rate:
            raise ValueError(
                "phase2.learning_rate: expected a rate below phase1.learning_rate "
                f"({self.phase1.learning_rate:g}), received {self.phase2.learning_rate:g}; a high rate destroys "
                "pretrained weights, set phase2.allow_high_rate=true if you mean it"
            )

    def _check_scratch(self) -> None:
        """Refuse training from scratch of a network that comes with its weights."""
        if self.evaluate.scratch and self.backbone.name in (backbones.KERAS_HUB, backbones.SAVED_MODEL):
            raise ValueError(
                "evaluate.scratch: expected false where the backbone is a saved one, which can't be built with random "
                "weights, received true; set evaluate.scratch=false"
            )

    def _check_formats(self) -> None:
        """Refuse a format that can't hold a SavedModel, where the backbone is one."""
        able = [name for name in self.export.formats if export_formats.FORMATS[name].any_layer]
        if self.backbone.name == backbones.SAVED_MODEL and able != self.export.formats:
            able = [name for name, form in export_formats.FORMATS.items() if form.any_layer]
            raise ValueError(
                f"export.formats: expected {', '.join(able)} alone, since no other can hold a SavedModel, received "
                f"{self.export.formats}; set 'export.formats=[{','.join(able)}]'"
            )
