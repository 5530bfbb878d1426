"""Predictions from an exported classifier."""
