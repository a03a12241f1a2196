"""Post-processing of predictions: thresholds, smoothing, and how they are tuned."""
