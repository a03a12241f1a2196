"""Crops, videos and sound into the store: plan, sources, runner, faces, cluster."""
