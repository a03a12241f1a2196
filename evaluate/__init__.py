"""Dense prediction, metrics, plots."""
