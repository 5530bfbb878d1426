"""BatchNorm in unfrozen blocks: the three policies of ``phase2.batch_norm``.

A BatchNorm layer (Ioffe and Szegedy, 2015, arXiv:1502.03167) has a scale and an offset, which gradients train, and a
mean and a variance, which move with every batch that passes in training mode.

- ``inference``: all four stay as they were pretrained.
- ``trainable_affine``: scale and offset are trained; the layer still normalises by its pretrained statistics.
- ``train``: the layer normalises by the statistics of the batch, and its own move towards those.

Whatever the policy, a frozen block's BatchNorm never changes, and what is tested or exported runs in inference mode.
"""

from typing import Any

from thaw.runtime.framework import keras, tf


class _Inference(keras.Model):  # type: ignore[misc]  # Keras has no stubs
    """A model or layer that stays in inference mode in training too.

    ``part(inputs, training=False)`` in a functional model does not do that: ``fit`` calls the functional model in
    training mode, and this mode goes before what was said when its graph was made.
    """

    def __init__(self, part: keras.layers.Layer):
        super().__init__(name=f"{part.name}_inference")
        self.part = part
        self.plain: dict[str, Any] = {}  # what it is called with besides tensors, always the same

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        # Keras does not let a layer with any arguments take tensors and plain values together.
        tensors = {key: value for key, value in options.items() if keras.tree.flatten(value) and _all_tensors(value)}
        self.plain |= {key: value for key, value in options.items() if key not in tensors}
        return super().__call__(*inputs, **tensors)

    def call(self, *inputs: Any, **tensors: Any) -> Any:
        return self.part(*inputs, **self.plain | tensors | {"training": False})


def _all_tensors(value: Any) -> bool:
    return all(isinstance(each, keras.KerasTensor) or tf.is_tensor(each) for each in keras.tree.flatten(value))


def norms(model: keras.Model) -> list[keras.layers.Layer]:
    """Return all BatchNorm layers of the model, also those inside of other layers."""
    return [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]


def _saved(model: keras.Model) -> list[keras.Variable]:
    """Return the named part of the BatchNorm variables inside of SavedModels; ``thaw.networks.saved_model`` finds
    them.
    """
    return [variable for layer in model._flatten_layers() for variable in getattr(layer, "saved_norms", [])]


def statistics(model: keras.Model) -> list[keras.Variable]:
    """Return the moving means and variances of the model's BatchNorm layers."""
    return [variable for layer in norms(model) for variable in (layer.moving_mean, layer.moving_variance)]


def held(model: keras.Model, policy: str) -> list[keras.Variable]:
    """Return the variables of all BatchNorm layers, frozen or not, that a policy promises to keep."""
    if policy == "inference":
        return [*(variable for layer in norms(model) for variable in layer.variables), *_saved(model)]
    return [] if policy == "train" else statistics(model)


def trained_by(part: keras.Model, policy: str) -> keras.Model:
    """Return the unfrozen part as training runs it, and set trainable what the policy allows.

    Args:
        part: a functional model, activations at the boundary → features.
        policy: one of ``thaw.config.phases.BATCH_NORMS``.

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
        return keras.models.clone_model(part, clone_function=_steady)
    inputs = keras.Input(part.input_shape[1:], name="activations")
    return keras.Model(inputs, _Inference(part)(inputs), name=part.name)


def _steady(layer: Any) -> Any:
    """Return the layer itself if training changes nothing in it but BatchNorm, else one that is always in inference
    mode.

    What draws at random has a state too, that of its generator.
    """
    if not isinstance(layer, keras.layers.Layer):  # an operation, as of keras.ops
        return layer
    known = {id(variable) for variable in statistics(layer)}
    if all(id(variable) in known for variable in layer.non_trainable_variables):
        return layer
    if not norms(layer):
        return _Inference(layer)
    raise ValueError(
        f"phase2.batch_norm=train: expected layers in which training moves BatchNorm alone, received {layer.name}, "
        "which has BatchNorm and draws at random or has a state of its own; choose inference or trainable_affine"
    )
