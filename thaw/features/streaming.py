"""What the frozen layers make of an image, whenever it is asked for: of views that are drawn afresh in every epoch."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from thaw.features import engines, gpu_extraction
from thaw.features.frozen import Frozen
from thaw.images import augment, fitting, manifest, reading
from thaw.runtime import threads
from thaw.runtime.framework import tf


def sources(frozen: Frozen, *splits: manifest.Images) -> list[manifest.Source]:
    """Return the activations at the first cut, computed when they are asked for, from views that need not be kept.

    The engine is made once for all of the splits, which takes seconds.
    """
    if engines.on_gpu() and engines.planned(frozen.compute.extractor) == "tensorflow":
        card = gpu_extraction.card(frozen.model, frozen.image, frozen.augment, frozen.batch_size())
        return [gpu_extraction.streamed(card, frozen.image, frozen.augment, split) for split in splits]
    run, _ = engines.engine(frozen.model, frozen.compute.extractor, frozen.converted())
    decode = fitting.decoder(frozen.image)
    make_views = augment.view(frozen.augment)
    pool = ThreadPoolExecutor(threads.used(), "fitting")

    def activations(split: manifest.Images, indices: np.ndarray, views: np.ndarray) -> np.ndarray:
        with manifest.told():
            chosen = [split.paths[index] for index in indices], [split.hashes[index] for index in indices]
            fields = decode(*reading.tensors(*chosen))
        pixels = fitting.batch(tuple(field.numpy() for field in fields), frozen.image, pool)
        if views.any():
            seeds = augment.view_seeds(frozen.augment, chosen[1], views.tolist())
            pixels = tf.where((views == 0)[:, None, None, None], pixels, make_views(pixels, seeds)).numpy()
        return run(pixels)[0]

    return [partial(activations, split) for split in splits]
