"""Measure images a second of feature extraction, files to cache, against the bare engine with data in memory.

``python -m benchmarks.extract --data DIR``. The goal is a ratio of 0.9 or more: reading, decoding, resizing and
writing must hide behind the engine.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import yaml

from benchmarks import record
from thaw import paths
from thaw.classifier import model
from thaw.config import load
from thaw.config.unfreeze import UnfreezeSpec
from thaw.data import validation
from thaw.features import engines, extraction
from thaw.features.frozen import Frozen
from thaw.images import manifest
from thaw.networks import freeze_boundaries
from thaw.runtime import seeds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder with one folder per class")
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    seeds.fix(0)  # as the stages do: TensorFlow's pipelines are others where operations must repeat
    text = load.compose(["data=folder", f"data.raw={options.data.resolve()}", "augment=none"], ())
    params = load.check(yaml.safe_load(text))
    samples = validation.read(params.data).samples[: options.images]
    files = [
        str(paths.converted(sample.sha256) if sample.converted else options.data / sample.path) for sample in samples
    ]
    hashes = [sample.converted or sample.sha256 for sample in samples]
    split = manifest.Images(files, files, hashes, np.zeros(len(files), np.int64))
    card = model.Card(params.backbone, "benchmark", params.image, params.head, ["a", "b"])
    classifier = model.build(card, weights=params.backbone.weights)
    cut = freeze_boundaries.find(classifier.backbone, UnfreezeSpec.parse("40"))
    frozen_part, _ = freeze_boundaries.split(classifier.backbone, cut)

    frozen = Frozen(frozen_part, [cut.tensor_layer], "benchmark", params.image, params.augment, params.compute)
    size = frozen.batch_size()
    memory = list(manifest.pixels(params.image, files, hashes, size))
    rates: dict[str, list[float]] = {"bare engine": [], "extractor": []}
    name = ""
    for _ in range(options.rounds):
        run, name = engines.engine(frozen_part, params.compute.extractor)
        run(memory[0])
        start = time.monotonic()
        for batch in memory:
            run(batch)
        rates["bare engine"].append(len(files) / (time.monotonic() - start))
        with tempfile.TemporaryDirectory() as scratch:
            params.compute.cache_dir = scratch
            # What is paid once a run, converting and checking the engine, is left out of the rate and shown beside it.
            start = time.monotonic()
            engines.engine(frozen_part, params.compute.extractor)
            begin = time.monotonic() - start
            start = time.monotonic()
            extraction.cached(frozen, [(split, 1)])
            rates["extractor"].append(len(files) / (time.monotonic() - start - begin))
    bare = statistics.median(rates["bare engine"])
    rows = [
        {
            "what": what,
            "images/s": round(statistics.median(each), 1),
            "of the bare engine": statistics.median(each) / bare,
        }
        for what, each in rates.items()
    ]
    record.write("extract", f"{len(files)} images, layers before {cut.block}, {name}", rows, rates=rates)


if __name__ == "__main__":
    main()
