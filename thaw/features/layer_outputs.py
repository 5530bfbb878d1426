"""What the frozen layers make of views of images: on this processor, on a GPU, or on the workers of a Ray cluster."""

from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial

import numpy as np

from thaw.features import engines, gpu_extraction, store
from thaw.features.frozen import Frozen
from thaw.images import augment, manifest
from thaw.runtime import cluster, threads
from thaw.runtime.framework import tf

ON_CLUSTER = 64_000_000  # bytes of activations that a worker of a cluster makes at a time


def of(
    frozen: Frozen, paths: Mapping[str, str]
) -> tuple[Callable[[store.Missing], Generator[gpu_extraction.Views]], str]:
    """Return what gives what the layers make of missing views, and the name of the engine."""
    if frozen.compute.ray:
        return partial(_on_cluster, frozen, paths), "on a Ray cluster"
    if engines.on_gpu() and engines.planned(frozen.compute.extractor) == "tensorflow":
        card = gpu_extraction.card(frozen.model, frozen.image, frozen.augment, frozen.batch_size(), tf.float16)

        def on_card(missing: store.Missing) -> Generator[gpu_extraction.Views]:
            wanted = [gpu_extraction.Wanted(paths[sha], sha, tuple(sorted(views))) for sha, views in missing.items()]
            return gpu_extraction.outputs(card, frozen.image, frozen.augment, wanted)

        return on_card, card.layers.name
    run, engine = engines.engine(frozen.model, frozen.compute.extractor, frozen.converted())

    def on_processor(missing: store.Missing) -> Generator[gpu_extraction.Views]:
        def made(item: tuple[int, list[str], np.ndarray]) -> gpu_extraction.Views:
            view, shas, pixels = item
            return view, shas, run(pixels)

        return threads.overlapped(made, threads.ahead(_views(frozen, paths, missing)))

    return on_processor, engine


def _on_cluster(frozen: Frozen, paths: Mapping[str, str], missing: store.Missing) -> Generator[gpu_extraction.Views]:
    """Yield what the layers make of missing views on the workers of a cluster, as they come.

    Their parts are of whole batches, so that each image has the same others beside it as in one process.
    """
    batch, hashes, bytes_of_all = frozen.batch_size(), list(missing), sum(frozen.row_bytes()) * frozen.views()
    size = max(1, ON_CLUSTER // (bytes_of_all * batch)) * batch
    some = [hashes[first : first + size] for first in range(0, len(hashes), size)]
    parts = [({sha: missing[sha] for sha in part}, {sha: paths[sha] for sha in part}) for part in some]
    alone, cores = replace(frozen, compute=replace(frozen.compute, ray="")), threads.used()
    for _, made in cluster.done(frozen.compute.ray, _worker, (alone,), parts, cores=cores, gpus=int(engines.on_gpu())):
        yield from made


def _worker(
    frozen: Frozen,
) -> Callable[[tuple[store.Missing, Mapping[str, str]]], list[gpu_extraction.Views]]:
    """Return what a worker of a cluster makes of missing views and the paths of their images."""
    known: dict[str, str] = {}
    layers, _ = of(frozen, known)

    def made(part: tuple[store.Missing, Mapping[str, str]]) -> list[gpu_extraction.Views]:
        missing, paths = part
        known.update(paths)
        with np.errstate(over="ignore"), closing(layers(missing)) as views:  # the cache says what is too large
            return [(view, shas, [each.astype(np.float16) for each in outputs]) for view, shas, outputs in views]

    return made


def _views(
    frozen: Frozen, paths: Mapping[str, str], missing: store.Missing
) -> Generator[tuple[int, list[str], np.ndarray]]:
    """Yield each missing view: its number, the images' hashes, their pixels (n, size, size, 3) float32 in [0, 255]."""
    make_views = augment.view(frozen.augment)
    hashes, size = list(missing), frozen.batch_size()
    for number, clean in enumerate(manifest.pixels(frozen.image, [paths[sha] for sha in hashes], hashes, size)):
        shas = hashes[number * size : (number + 1) * size]
        for view in sorted({view for sha in shas for view in missing[sha]}):
            chosen = [position for position, sha in enumerate(shas) if view in missing[sha]]
            picked = [shas[position] for position in chosen]
            pixels = clean if len(chosen) == len(shas) else clean[chosen]
            if view:
                seeds = augment.view_seeds(frozen.augment, picked, [view] * len(picked))
                pixels = make_views(pixels, seeds).numpy()
            yield view, picked, pixels
