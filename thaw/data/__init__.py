"""From a folder or a table of image files to train, validation and test splits. No TensorFlow."""
