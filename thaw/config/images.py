"""The groups ``data``, ``image`` and ``augment`` of the configuration: images, their preprocessing and views."""

from dataclasses import dataclass

from thaw.config.policy import Policy
from thaw.config.ranges import LARGEST_SEED, between, one_of

FITS = ("squash", "crop", "pad")
INTERPOLATIONS = ("nearest", "bilinear", "bicubic")


@dataclass
class Data:
    """The images, what is done about bad ones, and how they are split."""

    # a folder, or a `.csv` or `.parquet` file | the images, see docs/data.md; relative to the project, or absolute; or
    # an address in an object store, such as `s3://bucket/prefix`
    raw: str
    nested: bool  # folders in class folders are classes of their own, named a/b
    val: float  # share of the images for validation
    test: float  # share of the images for the held-out test
    seed: int  # of the split
    near_duplicates: bool  # near-duplicates go to one split, as images with the same bytes always do
    near_threshold: float  # likeness of two images from which they are near-duplicates
    min_side: int  # an image with a smaller width or height is `small`
    max_pixels: int  # width × height above which an image is not decoded
    min_per_class: int  # a class with fewer usable ones is `few`
    max_bad_share: float  # share of files left out above which `prepare` stops
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
        protocol, is_address, inside = self.raw.partition("://")
        # What is not repeated in the message may be a password.
        if is_address and ("@" in inside or "?" in inside):
            raise ValueError(
                "data.raw: expected an address without credentials or options, received one with @ or ?; the store's "
                "client reads credentials from the environment, such as AWS_PROFILE"
            )
        if is_address and protocol in {"http", "https", "file"}:
            raise ValueError(
                "data.raw: expected a folder, or an address whose store can list its objects (s3://, gs://, abfs://), "
                f"received {protocol}://; download the images and name their folder"
            )


@dataclass
class Image:
    """Preprocessing: size of the input, and how an image is fitted to it."""

    size: int  # height and width of the input
    fit: str  # stretch to the square, cut out its middle, or add black borders
    interpolation: str  # how pixels between pixels are found
    antialias: bool  # low-pass filter before an image is made smaller

    def __post_init__(self) -> None:
        between(self, "size", 32, 1024, "pixels")
        one_of(self, "fit", FITS)
        one_of(self, "interpolation", INTERPOLATIONS)


@dataclass
class Augment:
    """Augmentation: random views of the training images. Every range is symmetric around "unchanged"."""

    # 2 to 64, or 1 where nothing augments | seeded views kept of each training image; the first is the image as it is
    views: int
    horizontal_flip: bool  # left and right exchanged in half of the views
    vertical_flip: bool  # top and bottom exchanged in half of the views
    quarter_turns: bool  # turned by 0, 90, 180 or 270 degrees
    rotation: float  # largest angle, to either side
    zoom: float  # 0.1 is 90 % to 110 % of the size
    translation: float  # largest shift, as a share of the image's side
    brightness: float  # largest amount added or taken away, as a share of the pixel range
    contrast: float  # 0.1 is 90 % to 110 % of the distance from the image's mean
    seed: int  # of the views

    def __post_init__(self) -> None:
        between(self, "seed", 0, LARGEST_SEED)
        between(self, "views", 1, 64)
        between(self, "rotation", 0, 180, "degrees")
        between(self, "zoom", 0, 0.9)
        between(self, "translation", 0, 0.5)
        between(self, "brightness", 0, 1)
        between(self, "contrast", 0, 1)
        if self.views == 1 and not self.is_clean:
            raise ValueError(
                "augment.views: expected 2 or more where images are augmented, received 1, and the first view is the "
                "image as it is; set augment.views=2, or augment=none for no augmentation"
            )

    @property
    def is_clean(self) -> bool:
        """Return whether every view is the image as it is."""
        flags = self.horizontal_flip, self.vertical_flip, self.quarter_turns
        ranges = self.rotation, self.zoom, self.translation, self.brightness, self.contrast
        return not any(flags) and not any(ranges)
