"""The benchmarks that the README's figures come from. Each is one command: ``python -m benchmarks.NAME``."""
