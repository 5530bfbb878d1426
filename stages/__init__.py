"""The entry points that dvc.yaml runs, one module a stage."""
