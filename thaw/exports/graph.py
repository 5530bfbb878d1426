"""The deployed classifier as one graph of plain operations, from which ONNX and LiteRT files are converted."""

from typing import Any

from thaw.classifier import model
from thaw.exports import resize, unfamiliarity
from thaw.exports.exported import UNFAMILIARITY, Deployed
from thaw.runtime.framework import tf

RESIZE = "thaw_resize"  # the scope of what fits the pixels, by which quantising passes it over
PROBABILITIES = "probabilities"
IMAGES = "images"


def outputs(deployed: Deployed, pixels: "tf.Tensor") -> "dict[str, tf.Tensor]":
    """Return what the deployed model says of fitted pixels.

    Args:
        deployed: the classifier and its settings.
        pixels: (batch, size, size, 3) float32 in [0, 255].

    Returns:
        ``probabilities``, (batch, classes) float32, and with a score of images unlike the training images also
        ``unfamiliarity``, (batch,) float32.
    """
    classifier = deployed.classifier
    embeddings = classifier.pool(classifier.backbone(pixels, training=False))
    logits = classifier.head(embeddings, training=False)
    if deployed.temperature != 1:
        logits /= deployed.temperature
    found = {PROBABILITIES: tf.nn.softmax(logits)}
    if deployed.unfamiliarity is not None:
        found[UNFAMILIARITY] = unfamiliarity.scores(embeddings, deployed.unfamiliarity)
    return found


def function(deployed: Deployed, batch: int | None = None) -> tuple[Any, tf.TensorSpec, tf.Module]:
    """Return the graph as a function, what it takes, and the module that holds its variables.

    Args:
        deployed: the classifier and its settings.
        batch: images at once; None: any number.

    Returns:
        (batch, height, width, 3) uint8 RGB of any size → ``outputs``.
    """
    whole, image = model.whole(deployed.classifier), deployed.classifier.card.image

    # Types are quoted, as AutoGraph takes the functions for a module's own and finds no `tf` there.
    def answer(images: "tf.Tensor") -> "dict[str, tf.Tensor]":
        with tf.name_scope(RESIZE):
            pixels = resize.fitted(images, image)
        return outputs(deployed, pixels)

    spec = tf.TensorSpec((batch, None, None, 3), tf.uint8, name=IMAGES)
    module = tf.Module()
    module.variables_of_it = [variable.value for variable in whole.weights]
    module.answer = tf.function(answer, input_signature=[spec], autograph=False)
    return module.answer, spec, module
