"""The early trial of a network from outside the catalog: each format asked for is written before it is trained.

Of the catalog ``tests/exports/test_networks.py`` tries one network of each family. Of a SavedModel's operations, a
builder's or a preset's nothing is known before they are converted. No TensorFlow before there is one.
"""

import hashlib
import json
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

from thaw import paths, records
from thaw.catalog import backbones
from thaw.config import schema
from thaw.exports import provenance
from thaw.images import decoding
from thaw.runtime import code_version

CLASSES = ["one", "other"]
NEAR = 0.1  # what a probability may differ by: it is of a head of no training, and the gate will look closer


def check(
    backbone: schema.Backbone, image: schema.Image, options: schema.Export, environment: dict[str, dict[str, str]]
) -> None:
    """Write a network from outside the catalog, with a head of no training, in all formats asked for, and ask them.

    What passes is remembered, and not tried again before the network, the formats or a package is another.

    Args:
        backbone, image, options: groups of the configuration.
        environment: what ``thaw.networks.environment.describe`` returns, by which weights and packages are known.

    Raises:
        ValueError: a format can't hold it; or it can't be built, as phase 1 would say.
    """
    if backbone.name not in backbones.FOREIGN:
        return
    told = [asdict(backbone), asdict(image), options.formats, environment, provenance.writers()]
    code = code_version.of("exports", "networks", "classifier", "runtime/onnx_conversion.py")
    known = hashlib.sha256(json.dumps([told, code], sort_keys=True).encode()).hexdigest()
    passed = paths.main_root() / paths.REHEARSED / known
    if not passed.is_file():
        _try(backbone, image, options)
        records.write_bytes(passed, b"")


def _try(backbone: schema.Backbone, image: schema.Image, options: schema.Export) -> None:
    from thaw.classifier import model  # noqa: PLC0415 -- seconds, for TensorFlow
    from thaw.exports import causes, odd_photos, parity, write  # noqa: PLC0415

    card = model.Card(backbone, "", image, schema.Head("avg", [], [], 0.0), CLASSES)
    classifier = model.build(card, weights=backbone.weights)
    photos = list(odd_photos.photos(decoding.USUAL).values())
    pictures = [decoding.pixels(data, decoding.USUAL, image) for data in photos]
    loose = replace(options, tolerance=NEAR, agreement=0.0)
    with tempfile.TemporaryDirectory() as scratch:
        files = [Path(scratch, str(number)) for number in range(len(photos))]
        for file, data in zip(files, photos, strict=True):
            file.write_bytes(data)
        write.write(Path(scratch, "export"), classifier, options.formats, calibration=lambda: iter(pictures))
        probes = parity.Probes(list(map(str, files)), causes.evaluated(classifier, 1.0)(photos))
        parity.check(Path(scratch, "export"), probes, CLASSES, loose)
