"""Pure tables without TensorFlow: the pixel ranges of pretrained networks."""
