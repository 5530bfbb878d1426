"""Hyperparameter sweeps: a Hydra multirun whose trials are DVC experiments."""
