"""Readers of the official layouts: videos, frames, labels, splits; and the demo dataset."""
