"""Scores: challenge metrics, confidence intervals, calibration."""
