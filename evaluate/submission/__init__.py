"""Submission files: write, check, score."""
