"""Temporal heads on stored features: windows, losses, the training loop, checkpoints."""
