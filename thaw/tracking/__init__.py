"""MLflow, which mirrors the records on disk."""
