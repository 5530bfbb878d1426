"""The activation cache: what the frozen layers make of each view of each image, computed once, ever.

A frozen layer is a pure function, so its output is a memo: deleting the cache changes nothing but time. An entry's
name is the hash of all that determines its numbers: weights, cut, preprocessing, augmentation with its seed and the
view's number, engine and versions. Which images there are is not in the name: images that are added cost
only themselves, and a view more costs only that view.
"""

import os
import time
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from thaw import console, timings
from thaw.config import schema
from thaw.features import cache, engines, gpu_extraction, packs, store, stored
from thaw.images import augment, manifest
from thaw.runtime import cluster, code_version, threads
from thaw.runtime.framework import keras, tf

# The packages whose code makes the numbers, wherever it is called from. Pooling is a part of the head.
CODE = ("classifier", "features", "images", "networks", "runtime")
ON_CLUSTER = 64_000_000  # bytes of activations that a worker of a cluster makes at a time
BATCH = 32  # images a step on a processor where compute.extract_batch_size is auto

Sets = Sequence[tuple[manifest.Images, int]]  # images, and how many views of each


@dataclass
class Frozen:
    """The frozen layers and all that determines what they put out."""

    model: keras.Model  # (batch, size, size, 3) float32 in [0, 255] → one output a cut
    cuts: list[str]  # the outputs' names
    weights_sha256: str  # of the pretrained weights
    image: schema.Image
    augment: schema.Augment
    compute: schema.Compute
    spare: Collection[str] = ()  # cuts that a later stage may ask for: computed in passing, if fp16 can hold them
    kind: str = stored.FLOAT16  # how activations that are no pooled features are stored

    def shapes(self) -> list[tuple[int, ...]]:
        """Return of an image's activations at each cut."""
        return [tuple(output.shape[1:]) for output in self.model.outputs]

    def row_bytes(self) -> list[int]:
        """Return the size of an image's activations at each cut in the cache, in bytes."""
        return [stored.size(stored.of(self.kind, shape), shape) for shape in self.shapes()]

    def cache_bytes(self, train: int, val: int) -> int:
        """Return what the cache needs for so many images of training and validation."""
        return sum(self.row_bytes()) * (train * self.views() + val)

    def batch_size(self) -> int:
        """Return the number of images a step through the layers."""
        size = self.compute.extract_batch_size
        return int(size) if size != "auto" else gpu_extraction.BATCH if engines.on_gpu() else BATCH

    def converted(self) -> Path:
        """Return where the ONNX graph of the layers is kept."""
        made_of = {
            "weights": self.weights_sha256,
            "cuts": self.cuts,
            "size": self.image.size,
            "versions": [version(package) for package in ("tensorflow", "keras", "tf2onnx")],
            "code": code_version.of("classifier", "features", "networks", "runtime/onnx_conversion.py"),
        }
        return cache.folder(self.compute.cache_dir) / "converted" / f"{cache.name(**made_of)}.onnx"

    def views(self) -> int:
        """Return the number of different views that the cache keeps of each training image."""
        return 1 if self.augment.is_clean else self.augment.views


def complete(frozen: Frozen, sets: Sets) -> bool:
    """Return whether the cache names all that is asked for. Whether it is whole is seen when it is read."""
    _, names = _names(frozen, max(views for _, views in sets))
    return store.names_all(frozen.compute.cache_dir, names, _wanted(sets))


def cached(frozen: Frozen, sets: Sets) -> list[list[cache.Reader]]:
    """Make sure that the cache holds all that is asked for, and open it.

    Args:
        sets: images, and how many views of each.

    Returns:
        For each set, a reader for each cut that is not spare.

    Raises:
        cache.TooLargeError: fp16 can't hold an activation at such a cut.
        ValueError: ``compute.shared_cache`` can't be reached.
    """
    opened, wanted = _store(frozen, sets), _wanted(sets)
    shared = packs.at(frozen.compute.shared_cache, frozen.compute.shared_cache_gb)
    # Who finds all there need not wait for those who compute something else with the same weights.
    found = opened.ask(wanted)
    if found.missing:
        with opened.filling():
            found = opened.ask(wanted)
            if found.missing:
                paths = {sha: path for split, _ in sets for sha, path in zip(split.hashes, split.paths, strict=True)}
                _fill(frozen, opened, paths, found.missing, shared)
        found = opened.ask(wanted)
    if shared:
        shared.publish(opened)
    return opened.readers(found)


def _wanted(sets: Sets) -> store.Wanted:
    return [(split.hashes, views) for split, views in sets]


def _store(frozen: Frozen, sets: Sets) -> store.Store:
    family, names = _names(frozen, max(views for _, views in sets))
    spare = [cut for cut, name in enumerate(frozen.cuts) if name in frozen.spare]
    return store.Store(frozen.compute.cache_dir, family, names, frozen.shapes(), spare, frozen.kind)


def _names(frozen: Frozen, views: int) -> tuple[str, list[list[str]]]:
    """Return the lock's name, and the name of each view's entry at each cut."""
    family: dict[str, Any] = {
        "weights": frozen.weights_sha256,
        "image": asdict(frozen.image),
        "engine": engines.planned(frozen.compute.extractor),
        "gpu": engines.on_gpu(),
        # Only there have the frozen layers other last bits.
        "deterministic": frozen.compute.deterministic or not engines.on_gpu(),
        "kernels": os.environ.get("TF_ENABLE_ONEDNN_OPTS", ""),
        "versions": [version(package) for package in ("tensorflow", "keras", "onnxruntime", "tf2onnx")],
        "code": code_version.of(*CODE),
    }
    drawn = {key: value for key, value in asdict(frozen.augment).items() if key != "views"}
    kinds = (stored.of(frozen.kind, shape) for shape in frozen.shapes())
    own = [{} if kind == stored.FLOAT16 else {"stored": kind} for kind in kinds]
    return cache.name(**family), [
        [
            cache.name(**family, cut=cut, view=view, augment=drawn if view else None, **more)
            for cut, more in zip(frozen.cuts, own, strict=True)
        ]
        for view in range(views)
    ]


def _fill(
    frozen: Frozen,
    opened: store.Store,
    paths: Mapping[str, str],
    missing: store.Missing,
    shared: packs.Packs | None,
) -> None:
    """Compute what is missing: each image is decoded once, and each of its missing views passes the layers once.

    Where a cache is shared, what it has is copied, and what is computed is written there part by part.
    """
    wanted = opened.make_room(missing, round(frozen.compute.cache_gb * 1e9))
    parts: Sequence[store.Missing] = [missing]
    if shared:
        parts = packs.parts(missing, max(frozen.row_bytes()), frozen.batch_size())
        left = shared.fetch(opened, missing)
        parts = [{sha: left[sha] for sha in part if sha in left} for part in parts]
        console.say(f"{len(missing) - len(left):,} of {len(missing):,} images come from compute.shared_cache")
        if not left:
            return
        missing = left
    layers, engine = _layers(frozen, paths)
    passes = sum(len(views) for views in missing.values())
    console.say(
        f"{len(missing):,} images, {passes:,} views through the frozen layers ({engine}, {wanted / 1e6:,.0f} MB)"
    )
    start, done = time.monotonic(), 0
    with console.bar("views") as bar:
        task = bar.add_task("frozen layers", total=passes, note="")
        for number, part in enumerate(parts):
            some = shared.fetch(opened, part) if shared and number else part  # others may have written it meanwhile
            with closing(layers(some)) as made:
                for view, shas, outputs in made:
                    for cut in opened.add(some, view, shas, outputs):
                        console.warn(
                            f"fp16 can't hold activations at {frozen.cuts[cut]}: too large or near zero, none is kept"
                        )
                    done += len(shas)
                    bar.update(task, completed=done, note=f"{done / (time.monotonic() - start):,.0f} views/s")
            if shared:
                shared.publish(opened)
    timings.note("extraction", count=done, seconds=time.monotonic() - start)


def _layers(
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
    layers, _ = _layers(frozen, known)

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
