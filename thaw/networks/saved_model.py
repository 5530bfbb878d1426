"""A SavedModel as a layer: whatever made it, its variables are trained in place."""

import re
from typing import Any

from thaw.runtime.framework import keras, tf


class Saved(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """A SavedModel as one layer, whose variables are trained in place; it is always run in inference mode."""

    def __init__(self, folder: str, **options: Any) -> None:
        super().__init__(**options)
        self.folder = folder
        self.loaded = tf.saved_model.load(folder)
        if callable(self.loaded):  # a module of TensorFlow Hub
            self.function = self.loaded
            variables, trainable = _variables(self.loaded)
        else:
            signature = self.loaded.signatures.get("serving_default")
            if signature is None or len(signature.structured_input_signature[1]) != 1:
                raise ValueError(
                    f"{folder}: expected a SavedModel that can be called or has a signature serving_default of one "
                    f"input, received signatures {sorted(self.loaded.signatures)}"
                )
            (name,) = signature.structured_input_signature[1]
            self.function = lambda images: signature(**{name: images})
            variables, trainable = signature.variables, signature.trainable_variables
        free = {id(variable) for variable in trainable}
        for number, variable in enumerate(variables):
            path = variable.name.split(":")[0].replace("/", "_")
            kept = keras.Variable(
                variable, dtype=variable.dtype.name, trainable=id(variable) in free, name=f"{number}_{path}"
            )
            self._track_variable(kept)
        self.built = True

    @property
    def saved_norms(self) -> list[keras.Variable]:
        """Return the variables that their names tell as a BatchNorm's: statistics, scale and offset."""
        words = r"(?:gamma|beta|moving_mean|moving_variance)$"
        stems = {id(one): re.sub(words, "", one.name.partition("_")[2]) for one in self.weights}
        keeping = {stems[id(one)] for one in self.weights if one.name.endswith("moving_variance")}
        return [one for one in self.weights if re.search(words, one.name) and stems[id(one)] in keeping]

    def call(self, images: Any) -> Any:
        """Call the SavedModel: (batch, size, size, 3) float32 → (batch, …) float32, of several outputs the first."""
        return tf.nest.flatten(self.function(images))[0]

    def get_config(self) -> dict[str, Any]:
        """Return the config with the folder, which is not what a file of the model could be loaded from elsewhere."""
        return {**super().get_config(), "folder": self.folder}

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape, found by calling it."""
        spec = tf.TensorSpec((None, *shape[1:]), tf.float32)
        return tuple(tf.function(self.call).get_concrete_function(spec).structured_outputs.shape)


def _variables(module: Any) -> tuple[list[Any], list[Any]]:
    """Return all and the trainable variables of a module: those that it names, or those that its function uses."""
    if hasattr(module, "variables") and hasattr(module, "trainable_variables"):
        return list(module.variables), list(module.trainable_variables)
    function = module.__call__.concrete_functions[0]
    return list(function.variables), list(function.trainable_variables)
