"""The range canary: check before training that the backbone gets its pixels in the range that it was pretrained in.

A network that is fed in another range still trains and still tests, only worse, so that nobody notices. Yet it holds a
record of what it was fed with: its first BatchNorm keeps the mean and the variance, over all images of its own
training, of what comes out of the first convolution. A convolution is linear, so these follow from the images' mean
colour, the covariance of their colours and their spectrum alone; and those of photographs are known. So the canary
draws images that have them, brings them into the configured range and into each plausible wrong one, and compares what
arrives at the BatchNorm with the record. If a wrong one fits clearly better, the stage stops.

The user's images would not do for that: digits on black, scans and dark photographs differ more from ImageNet than
some ranges do from each other. They are only looked at for what no image can be: values outside 0 to 255, or fractions
on a scale that ends at 1.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from thaw import console
from thaw.catalog.pixel_ranges import CORNERS, DEVIATION, MEAN, RANGES, Range
from thaw.networks import graph
from thaw.runtime.framework import keras

# Correlations of red, green and blue over the pixels of ImageNet, by its principal components as AlexNet's authors
# published them (Krizhevsky et al., 2012).
CORRELATION = np.array([[1.0, 0.90, 0.77], [0.90, 1.0, 0.90], [0.77, 0.90, 1.0]])
# The amplitude of a photograph's detail falls with this power of its frequency: 1.2 on average (Field, 1987,
# doi:10.1364/JOSAA.4.002379; Tolhurst et al., 1992, doi:10.1111/j.1475-1313.1992.tb00296.x).
FALL = 1.2
IMAGES, SEED = 4, 0
SIDE = 224  # pixels at most: more make the answer slower, not surer

# Divergences in nats a channel, of which no channel counts more than the cap: a few that hardly ever differ from 0
# would say all. A network that was pretrained on ImageNet comes to 0.03 in its own range, in the nearest other to 0.5.
CAP = 3.0
FITS, FITS_NOT, CLEARLY = 0.1, 0.25, 3.0
# Exchanging red and blue changes little but the means. They are off by 0.006 variances as they should be, and by 0.04
# when exchanged.
EXCHANGED = 0.02


@dataclass
class Verdict:
    """The canary's verdict, for people and for the records."""

    judged: bool
    text: str
    distance: float | None = None  # of the configured range, nats a channel


def check(backbone: keras.Model, pixels: np.ndarray, on_mistake: str = "stop") -> Verdict:
    """Judge the range of the backbone's input.

    Args:
        backbone: pretrained; pixels (batch, size, size, 3) in [0, 255] → features.
        pixels: (n, size, size, 3) of some training images as the backbone is to be given them.
        on_mistake: of ``thaw.config.phases.CANARIES``; ``warn`` is for networks that were not pretrained on
            photographs.

    Raises:
        ValueError: another range fits clearly better, or the images are in none that this program makes.
    """
    _check_images(pixels)
    try:
        verdict = _judge(backbone)
    except ValueError as mistake:
        if on_mistake == "stop":
            raise
        console.warn(str(mistake))
        return Verdict(judged=False, text=str(mistake))
    console.say(verdict.text)
    return verdict


def _judge(backbone: keras.Model) -> Verdict:
    found = _beginning(backbone)
    if isinstance(found, str):
        return Verdict(judged=False, text=f"pixel range not judged: {found}")
    norm, at_norm, configured = found
    size = backbone.input_shape[1]
    images = photographs(min(size, SIDE))

    def fit(candidate: Range) -> tuple[float, float]:
        return _distances(norm, at_norm, configured.back(candidate(images)), size)

    wrong = [other for known in RANGES.values() for other in (known, known.swapped())]
    wrong = [other for other in wrong if not other.is_near(configured) and not other.is_near(configured.swapped())]
    own, own_means = fit(configured)
    best, (distance, _) = min(((other, fit(other)) for other in wrong), key=lambda pair: pair[1][0])
    if own > FITS_NOT and distance < min(own / CLEARLY, FITS):
        raise ValueError(_complaint(backbone, best, configured, distance, own))
    swapped, swapped_means = fit(configured.swapped())
    if own_means > EXCHANGED and swapped_means < own_means / CLEARLY and swapped < FITS:
        raise ValueError(_complaint(backbone, configured.swapped(), configured, swapped_means, own_means))
    if own > FITS_NOT:
        text = f"pixel range not judged: photographs fit {norm.name} in no known range"
        return Verdict(judged=False, text=text, distance=own)
    return Verdict(
        True, f"pixel range as pretrained: {words(configured)} ({own:.2f}, the next best {distance:.2f})", own
    )


def photographs(size: int) -> np.ndarray:
    """Draw noise with the mean, the covariance of colours and the spectrum of ImageNet's photographs.

    Returns:
        (IMAGES, size, size, 3) float64, on a scale of 0 to 255 and a little beyond it. The second half is the first
        with light and dark exchanged, so that the mean is exact; the covariance is, too.
    """
    random = np.random.default_rng(SEED)
    axis = np.fft.fftfreq(size) * size
    frequency = np.hypot(axis[:, None], axis)
    frequency[0, 0] = 0.5  # images differ in their mean, too
    noise = np.fft.fft2(random.normal(size=(IMAGES // 2, 3, size, size)))
    fields = np.fft.ifft2(noise * frequency**-FALL).real  # (n, 3, size, size)
    chance = np.einsum("ncyx,ndyx->cd", fields, fields) / (fields.size / 3)
    colour = np.linalg.cholesky(CORRELATION) @ np.linalg.inv(np.linalg.cholesky(chance))
    values = 255 * DEVIATION * np.einsum("cd,ndyx->nyxc", colour, fields)
    images: np.ndarray = 255 * MEAN + np.concatenate([values, -values])
    return images


def words(found: Range, *, every: bool = False) -> str:
    """Return a range's name; with ``every``, all names of ranges that a network would not tell from it."""
    names = {
        f"{name}{more}": one
        for name, known in RANGES.items()
        for one, more in ((known, ""), (known.swapped(), ", red and blue exchanged"))
    }
    near = [name for name in names if found.is_near(names[name])]
    if near:
        nearest = min(near, key=lambda name: float(np.abs(names[name](CORNERS) - found(CORNERS)).max()))
        return " or ".join(near) if every else nearest
    corners = found(CORNERS)
    return f"{corners.min():.4g} to {corners.max():.4g}"


def _complaint(backbone: keras.Model, better: Range, configured: Range, distance: float, own: float) -> str:
    return (
        f"backbone: expected pixels in the range that {backbone.name} was pretrained in, by its first BatchNorm "
        f"{words(better, every=True)} ({distance:.2g} from its record), received {words(configured)} ({own:.2g}); "
        "load weights that were trained on these pixels, or correct the range of a network of your own; if it was not "
        "trained on photographs, set phase1.canary=warn"
    )


def _check_images(pixels: np.ndarray) -> None:
    low, high = float(pixels.min()), float(pixels.max())
    if low < 0 or high > 255 or (0 < high <= 1 and (pixels % 1).any()):
        raise ValueError(
            f"images: expected pixels from 0 to 255 before the backbone, received {low:.3g} to {high:.3g}; something "
            "scales them before the backbone does"
        )


def _beginning(backbone: keras.Model) -> tuple[keras.layers.Layer, keras.Model, Range] | str:
    """Return the first BatchNorm, the network up to what enters it, and the configured range; or why there is none."""
    norm = next((layer for layer in backbone.layers if isinstance(layer, keras.layers.BatchNormalization)), None)
    if norm is None:
        inside = any(isinstance(each, keras.layers.BatchNormalization) for each in backbone._flatten_layers())
        return f"the network has no BatchNorm that keeps a record{' but inside of other layers' if inside else ''}"
    means, variances = norm.moving_mean.numpy(), norm.moving_variance.numpy()
    if not means.any() and (variances == 1).all():
        return "its BatchNorm has no record: the weights are random, or it was folded into the convolutions"
    feeds, outputs = graph.producers(backbone)
    first = next((layer for layer in backbone.layers if any(each.name == "kernel" for each in layer.weights)), None)
    if first is None or norm.name not in feeds or first.name not in feeds:
        return "its layers are not a graph that can be followed"
    entering, arriving = (outputs[next(iter(feeds[layer.name]))] for layer in (first, norm))
    configured = _range(backbone, entering)
    if configured is None:
        return "its first layers do more to the pixels than scale them"
    return norm, keras.Model(backbone.input, arriving), configured


def _range(backbone: keras.Model, entering: Any) -> Range | None:
    """Find what the layers before the first convolution do to a pixel, by feeding them with five colours."""
    if entering.shape[-1] != 3:
        return None
    size = backbone.input_shape[1]
    colours = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255], [64, 128, 192]], np.float32)
    plain = np.broadcast_to(colours[:, None, None], (5, size, size, 3))
    values = np.asarray(keras.Model(backbone.input, entering)(plain, training=False), np.float64)
    made = values[:, values.shape[1] // 2, values.shape[2] // 2]  # where no padding is
    found = Range(((made[1:4] - made[0]) / 255).T, made[0])
    is_affine = np.allclose(found(colours[4]), made[4], atol=1e-3 * np.ptp(made))
    return found if is_affine and np.linalg.matrix_rank(found.matrix) == 3 else None


def _distances(norm: keras.layers.Layer, at_norm: keras.Model, pixels: np.ndarray, size: int) -> tuple[float, float]:
    """Return how far what arrives is from the record.

    Args:
        pixels: (n, side, side, 3); repeated to the network's size.

    Returns:
        The Kullback-Leibler divergence between two normal distributions, that of what arrives and that of the record,
        and the square of the distance of their means in variances of the record; both as means over the channels.
    """
    times = -(-size // pixels.shape[1])
    whole = np.tile(pixels, (1, times, times, 1))[:, :size, :size].astype(np.float32)
    values = np.asarray(at_norm(whole, training=False), np.float64)
    axes = tuple(range(values.ndim - 1))
    mean, variance = values.mean(axes), values.var(axes) + norm.epsilon
    kept_mean, kept_variance = (np.asarray(each, np.float64) for each in (norm.moving_mean, norm.moving_variance))
    kept_variance += norm.epsilon
    apart = (mean - kept_mean) ** 2 / kept_variance
    divergence = (np.log(kept_variance / variance) + variance / kept_variance + apart - 1) / 2
    return float(divergence.clip(max=CAP).mean()), float(apart.clip(max=CAP).mean())
