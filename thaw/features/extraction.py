"""The activation cache: what the frozen layers make of each view of each image, computed once, ever.

A frozen layer is a pure function, so its output is a memo: deleting the cache changes nothing but time. An entry's
name is the hash of all that determines its numbers: weights, cut, preprocessing, augmentation with its seed and the
view's number, engine and versions. Which images there are is not in the name: images that are added cost
only themselves, and a view more costs only that view.
"""

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from thaw import console, timings
from thaw.features import cache, engines, layer_outputs, packs, store, stored
from thaw.features.frozen import Frozen
from thaw.images import manifest
from thaw.runtime import code_version

# The packages whose code makes the numbers, wherever it is called from. Pooling is a part of the head.
CODE = ("classifier", "features", "images", "networks", "runtime")

Sets = Sequence[tuple[manifest.Images, int]]  # images, and how many views of each


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
    layers, engine = layer_outputs.of(frozen, paths)
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
