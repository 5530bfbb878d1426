"""The deployed classifier as one graph of plain operations, from which ONNX and LiteRT files are converted."""

from typing import Any

from thaw.classifier import model
from thaw.exports import resize
from thaw.exports.exported import Deployed
from thaw.runtime.framework import tf

RESIZE = "thaw_resize"  # the scope of what fits the pixels, by which quantising passes it over
PROBABILITIES = "probabilities"
IMAGES = "images"


def function(deployed: Deployed, batch: int | None = None) -> tuple[Any, tf.TensorSpec, tf.Module]:
    """Return the graph as a function, what it takes, and the module that holds its variables.

    Args:
        deployed: the classifier and its settings.
        batch: images at once; None: any number.

    Returns:
        (batch, height, width, 3) uint8 RGB of any size → ``probabilities``, (batch, classes) float32.
    """
    whole = model.whole(deployed.classifier)
    image, temperature = deployed.classifier.card.image, deployed.temperature

    # Types are quoted, as AutoGraph takes the functions for a module's own and finds no `tf` there.
    def answer(images: "tf.Tensor") -> "dict[str, tf.Tensor]":
        with tf.name_scope(RESIZE):
            pixels = resize.fitted(images, image)
        logits = whole(pixels, training=False)
        if temperature != 1:
            logits /= temperature
        return {PROBABILITIES: tf.nn.softmax(logits)}

    spec = tf.TensorSpec((batch, None, None, 3), tf.uint8, name=IMAGES)
    module = tf.Module()
    module.variables_of_it = [variable.value for variable in whole.weights]
    module.answer = tf.function(answer, input_signature=[spec], autograph=False)
    return module.answer, spec, module
