"""What BatchNorm does in thawed blocks: the three policies of ``phase2.batch_norm``.

A BatchNorm layer (Ioffe and Szegedy, 2015, arXiv:1502.03167) has a scale and an offset, which gradients train, and a
mean and a variance, which move with every batch that passes in training mode.

- ``inference``: all four stay as they were pretrained.
- ``trainable_affine``: scale and offset are trained; the layer still normalises by its pretrained statistics.
- ``train``: the layer normalises by the statistics of the batch, and its own move towards those.

Whatever the policy, a frozen block's BatchNorm never changes, and what is tested or exported runs in inference mode.
"""

from typing import Any

from thaw.framework import keras


class _Inference(keras.Model):  # type: ignore[misc]  # Keras has no stubs
    """A model or layer that stays in inference mode in training too.

    ``part(inputs, training=False)`` in a functional model does not do that: ``fit`` calls the functional model in
    training mode, and this mode goes before what was said when its graph was made.
    """

    def __init__(self, part: keras.layers.Layer):
        super().__init__(name=f"{part.name}_inference")
        self.part = part

    def call(self, *inputs: Any, **options: Any) -> Any:
        return self.part(*inputs, **options | {"training": False})


def norms(model: keras.Model) -> list[keras.layers.Layer]:
    """All BatchNorm layers of the model, those inside of other layers too."""
    return [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]


def _saved(model: keras.Model) -> list[keras.Variable]:
    """Of the BatchNorm inside of SavedModels, all that has a name; ``thaw.saved_model`` finds it."""
    return [variable for layer in model._flatten_layers() for variable in getattr(layer, "saved_norms", [])]


def statistics(model: keras.Model) -> list[keras.Variable]:
    """The moving means and variances of the model's BatchNorm layers."""
    return [variable for layer in norms(model) for variable in (layer.moving_mean, layer.moving_variance)]


def held(model: keras.Model, policy: str) -> list[keras.Variable]:
    """What a policy promises to keep of all the model's BatchNorm layers, be they thawed or not."""
    if policy == "inference":
        return [*(variable for layer in norms(model) for variable in layer.variables), *_saved(model)]
    return [] if policy == "train" else statistics(model)


def trained_by(part: keras.Model, policy: str) -> keras.Model:
    """A thawed part as training runs it, with what may be trained of it set trainable.

    Args:
        part: a functional model, activations at the boundary → features.
        policy: one of ``thaw.phases.BATCH_NORMS``.

    Returns:
        A functional model that shares the part's variables. In training mode nothing of it behaves differently than in
        inference, but for BatchNorm where the policy is ``train``. What drops values or layers at random, as
        EfficientNet does in ImageNet's own training, never does.

    Raises:
        ValueError: ``train`` can't be had of this part.
    """
    # One by one: a network whose builder has frozen its layers calls itself trainable all the same.
    for layer in part._flatten_layers():
        layer.trainable = True
    for layer in norms(part):
        layer.trainable = policy != "inference"
    for variable in _saved(part):
        # Its statistics never move: a SavedModel has no other mode than that in which it was saved.
        variable.trainable = policy != "inference" and not variable.name.endswith(("moving_mean", "moving_variance"))
    if policy == "train" and any(hasattr(layer, "saved_norms") for layer in part._flatten_layers()):
        raise ValueError(
            "phase2.batch_norm: expected inference or trainable_affine for a SavedModel, which always normalises by "
            "its own statistics, received train"
        )
    if policy == "train":
        return keras.models.clone_model(part, clone_function=_without_chance)
    inputs = keras.Input(part.input_shape[1:], name="activations")
    return keras.Model(inputs, _Inference(part)(inputs), name=part.name)


def _without_chance(layer: keras.layers.Layer) -> keras.layers.Layer:
    """The layer itself; in place of one that draws at random, one that does nothing or does not draw."""
    if not any(each._seed_generators for each in layer._flatten_layers()):
        return layer
    if not layer.weights:
        return keras.layers.Identity(name=layer.name)
    if not norms(layer):
        return _Inference(layer)
    raise ValueError(
        f"phase2.batch_norm=train: expected layers with BatchNorm that do not draw at random, received {layer.name}, "
        "which does both; choose inference or trainable_affine"
    )
