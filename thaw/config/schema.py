"""The configuration's types, units and ranges: one dataclass per group of ``conf/``.

Values live in YAML only, so no field has a default. A range is checked in ``__post_init__``; what two groups must
agree on is checked by ``Project``. Nothing here imports TensorFlow. The backbone is in ``thaw.config.backbone``, the
two phases are in ``thaw.config.phases``.
"""

from dataclasses import dataclass

from thaw.catalog import backbones

# Under their own names, so that every group is found here.
from thaw.config.backbone import Backbone as Backbone  # noqa: PLC0414  how a type checker is told
from thaw.config.phases import Phase1 as Phase1  # noqa: PLC0414
from thaw.config.phases import Phase2 as Phase2  # noqa: PLC0414
from thaw.config.policy import Policy
from thaw.config.ranges import LARGEST_SEED, between, one_of

FITS = ("squash", "crop", "pad")
INTERPOLATIONS = ("nearest", "bilinear", "bicubic")
POOLINGS = ("avg", "max")
EXTRACTORS = ("auto", "onnxruntime", "tensorflow")
FORMATS = ("keras", "saved_model")


@dataclass
class Data:
    """Which images, what is done about bad ones, and how they are divided."""

    raw: str  # folder of class folders, or of train/ val/ test/ with them, or a .csv or .parquet manifest; see data.md
    nested: bool  # folders in class folders are classes of their own, named a/b
    val: float  # share of the images for validation, 0.01 to 0.5
    test: float  # share of the images for the test, 0.01 to 0.5
    seed: int  # of the split, 0 to 4294967295
    near_duplicates: bool  # images that look alike go to one split, as those with the same bytes always do
    near_threshold: float  # likeness of two images from which they are one picture, 0.7 to 1
    min_side: int  # pixels, a smaller width or height is "small", 1 to 1024
    max_pixels: int  # width × height above which an image is not decoded, 1 to 1000000000
    min_per_class: int  # images, a class with fewer is "few", 1 to 1000000
    max_bad_share: float  # of the files; if more are bad, the stage stops; 0 to 1
    policy: Policy

    def __post_init__(self) -> None:
        between(self, "seed", 0, LARGEST_SEED)
        between(self, "val", 0.01, 0.5)
        between(self, "test", 0.01, 0.5)
        between(self, "near_threshold", 0.7, 1)
        between(self, "min_side", 1, 1024, "pixels")
        between(self, "max_pixels", 1, 10**9, "pixels")
        between(self, "min_per_class", 1, 10**6, "images")
        between(self, "max_bad_share", 0, 1)
        if not self.raw:
            raise ValueError("data.raw: expected a folder of images or a manifest, received an empty path")


@dataclass
class Image:
    """How a file becomes the backbone's input: the one preprocessing contract."""

    size: int  # pixels, height and width of the input, 32 to 1024
    fit: str  # squash: stretch to the square; crop: cut the middle square; pad: add black borders
    interpolation: str  # nearest, bilinear or bicubic
    antialias: bool  # low-pass filter before an image is made smaller

    def __post_init__(self) -> None:
        between(self, "size", 32, 1024, "pixels")
        one_of(self, "fit", FITS)
        one_of(self, "interpolation", INTERPOLATIONS)


@dataclass
class Augment:
    """Random views of a training image. Every range is symmetric around "unchanged"."""

    views: int  # seeded views kept per training image; view 0 is the clean image; 1 to 64
    horizontal_flip: bool  # left and right exchanged, half of the time
    vertical_flip: bool  # top and bottom exchanged, half of the time
    quarter_turns: bool  # turned by 0, 90, 180 or 270 degrees
    rotation: float  # degrees at most, 0 to 180
    zoom: float  # 0.1 is 90 % to 110 % of the size, 0 to 0.9
    translation: float  # share of the image's side, each direction, 0 to 0.5
    brightness: float  # share of the pixel range added or taken away, 0 to 1
    contrast: float  # 0.1 is 90 % to 110 % of the distance from the mean, 0 to 1
    seed: int  # of the views, 0 to 4294967295

    def __post_init__(self) -> None:
        between(self, "seed", 0, LARGEST_SEED)
        between(self, "views", 1, 64)
        between(self, "rotation", 0, 180, "degrees")
        between(self, "zoom", 0, 0.9)
        between(self, "translation", 0, 0.5)
        between(self, "brightness", 0, 1)
        between(self, "contrast", 0, 1)


@dataclass
class Head:
    """The layers put on the backbone: pooling, then dense layers with dropout, then logits."""

    pooling: str  # avg or max, over height and width
    units: list[int]  # width of each hidden dense layer; may be empty
    dropout: list[float]  # after each hidden layer, 0 to 0.95, as many as units
    l2: float  # weight of the L2 penalty on dense kernels, 0 to 1

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
    """How the work is done. DVC does not track it, since what comes out is the same but for last bits.

    One thing hangs on it: whether ``phase2.activations=auto`` caches or streams, which the stage's record says.
    """

    cache_dir: str  # folder of the activation cache; empty: .thaw/activations in the project
    cache_gb: float  # disk budget of the activation cache in GB (10^9 bytes), 0 to 100000
    extractor: str  # engine that runs the frozen layers: auto, onnxruntime or tensorflow
    extract_batch_size: int  # images a step through the frozen layers, 1 to 4096
    depths: list[str]  # values of phase2.unfreeze, besides its own, whose activations are kept in the same pass

    def __post_init__(self) -> None:
        between(self, "cache_gb", 0, 100_000, "GB")
        one_of(self, "extractor", EXTRACTORS)
        between(self, "extract_batch_size", 1, 4096, "images")


@dataclass
class Evaluate:
    """The test."""

    top_k: list[int]  # the answer counts as right if it is among the k likeliest classes; each 1 or more
    confidence: float  # of the intervals, 0.5 to 0.999
    batch_size: int  # images a step, 1 to 4096
    suspects: int  # suspected label errors shown on the data page, 0 to 1000

    def __post_init__(self) -> None:
        between(self, "suspects", 0, 1000, "images")
        between(self, "confidence", 0.5, 0.999)
        between(self, "batch_size", 1, 4096, "images")
        if any(k < 1 for k in self.top_k):
            raise ValueError(f"evaluate.top_k: expected numbers from 1, received {self.top_k}")


@dataclass
class Export:
    """What is deployed, and how exactly it must agree with what was tested."""

    formats: list[str]  # keras, saved_model
    tolerance: float  # largest difference of a probability between the exported and the evaluated model, 0 to 0.1

    def __post_init__(self) -> None:
        between(self, "tolerance", 0, 0.1)
        unknown = [name for name in self.formats if name not in FORMATS]
        if unknown or not self.formats:
            raise ValueError(f"export.formats: expected some of {', '.join(FORMATS)}, received {self.formats}")


@dataclass
class Tracking:
    """Where the runs are mirrored."""

    enabled: bool  # false: no run is written
    uri: str  # MLflow's tracking URI; empty: mlflow.db in the project. MLFLOW_TRACKING_URI goes before it
    experiment: str  # MLflow's experiment name

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
        if self.backbone.name == "saved_model" and "keras" in self.export.formats:
            raise ValueError(
                "export.formats: expected saved_model alone, since a .keras file can't hold a SavedModel, received "
                f"{self.export.formats}; set 'export.formats=[saved_model]'"
            )
        if self.phase2.learning_rate >= self.phase1.learning_rate and not self.phase2.allow_high_rate:
            raise ValueError(
                "phase2.learning_rate: expected a rate below phase1.learning_rate "
                f"({self.phase1.learning_rate:g}), received {self.phase2.learning_rate:g}; a high rate destroys "
                "pretrained weights, set phase2.allow_high_rate=true if you mean it"
            )
