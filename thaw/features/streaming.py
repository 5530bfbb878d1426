"""What the frozen layers make of an image, whenever it is asked for: of views that are drawn afresh in every epoch."""

import numpy as np

from thaw.features import engines, gpu_extraction
from thaw.features.extraction import Frozen
from thaw.images import augment, manifest, preprocessing
from thaw.runtime import threads
from thaw.runtime.framework import tf


def source(frozen: Frozen, split: manifest.Images) -> manifest.Source:
    """The activations at the first cut, computed when they are asked for, from views that need not be kept."""
    if engines.on_gpu() and engines.planned(frozen.compute.extractor) == "tensorflow":
        card = gpu_extraction.card(frozen.model, frozen.image, frozen.augment, frozen.batch_size())
        return gpu_extraction.streamed(card, frozen.image, frozen.augment, split)
    run, _ = engines.engine(frozen.model, frozen.compute.extractor)
    load = preprocessing.load(frozen.image)
    make_views = augment.view(frozen.augment)
    paths, hashes = np.array(split.paths), np.array(split.hashes)
    shape = (frozen.image.size, frozen.image.size, 3)

    def decode_all(files: tf.Tensor, expected: tf.Tensor) -> tf.Tensor:
        decoded = tf.data.Dataset.from_tensor_slices((files, expected)).map(
            lambda *file: tf.ensure_shape(load(manifest.encoded(*file)), shape),
            num_parallel_calls=threads.used(),
            deterministic=True,
        )
        return decoded.batch(tf.size(files, tf.int64)).get_single_element()

    decode = tf.function(decode_all, input_signature=[tf.TensorSpec((None,), tf.string)] * 2)

    def activations(indices: np.ndarray, views: np.ndarray) -> np.ndarray:
        with manifest.told():
            pixels = decode(paths[indices], hashes[indices])
        if views.any():
            seeds = augment.view_seeds(frozen.augment, [split.hashes[index] for index in indices], views.tolist())
            pixels = tf.where((views == 0)[:, None, None, None], pixels, make_views(pixels, seeds))
        return run(pixels.numpy())[0]

    return activations
