"""The guides, and the module that writes their tables."""
