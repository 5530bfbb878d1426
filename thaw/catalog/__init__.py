"""Pure tables: what networks expect of their pixels. No TensorFlow."""
