"""A video in, its emotions out: rows, overlay, timeline."""
