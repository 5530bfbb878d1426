"""Configuration: types, units and ranges, composing with Hydra, and loading. No TensorFlow."""
