"""TensorFlow and Keras imported once, seeds, threads and numerical precision."""
