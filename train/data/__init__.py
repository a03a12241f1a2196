"""Training data: tables of features, windows, folds, statistics."""
