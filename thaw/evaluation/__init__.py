"""Evaluation: metrics with confidence intervals, and the reports."""
