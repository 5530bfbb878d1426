"""Training: the loop, the optimizer with its learning rates, and the batches."""
