"""Thresholds of action units: the one with the highest F1, or the centre of the plateau around it."""

import numpy as np
from numpy.typing import NDArray

LARGEST_CUT = 9.0  # logit of the last threshold that is tried, a probability of .9999
PLATEAU = 0.99  # share of the highest F1 that thresholds of its plateau reach


def best_threshold(logits: NDArray[np.float32], actual: NDArray[np.bool_]) -> tuple[float, float]:
    """The threshold of an action unit with the highest F1, and that F1.

    F1 changes only where a threshold passes a prediction, and a best threshold lies just below a frame that is truly on:
    those are tried, all of them.

    Args:
        logits: (n,) of valid frames.
        actual: (n,) bool, the unit is on.

    Returns:
        A probability, and F1. Of equally good ranges the one nearest to one half is taken; in it one half, or else the
        middle (of the logits). One half if no threshold gives an F1 above 0.
    """
    from scipy.special import expit

    logits = np.clip(logits, -LARGEST_CUT, LARGEST_CUT)  # no threshold beyond this is tried
    on, off = np.sort(logits[actual]), np.sort(logits[~actual])
    below = np.searchsorted(off, on)  # number of frames that are off below each frame that is on
    floor = np.maximum(_before(on, np.arange(len(on))), _before(off, below))
    low, high = np.maximum(floor, -LARGEST_CUT), on.astype(np.float64)
    hits = np.arange(len(on), 0, -1)
    scores = np.where(low < high, 2 * hits / (hits + len(off) - below + len(on)), -1)
    if scores.max(initial=0) <= 0:
        return 0.5, 0.0
    best = np.flatnonzero(scores == scores.max())
    cuts = np.where((low[best] <= 0) & (high[best] > 0), 0, (low[best] + high[best]) / 2)
    cut = cuts[np.abs(cuts).argmin()]
    return float(expit(cut)), float(scores.max())


def plateau_threshold(logits: NDArray[np.float32], actual: NDArray[np.bool_]) -> tuple[float, float]:
    """The threshold of an action unit in the middle of the plateau of the highest F1, and its F1.

    The plateau is the range of thresholds around a best one in which F1 is at least `PLATEAU` of the highest; of several,
    the widest. A threshold at its edge may be far down the slope on other videos.

    Args:
        logits: (n,) of valid frames.
        actual: (n,) bool, the unit is on.

    Returns:
        A probability, the mean of the two ends (as probabilities), and F1. One half if no threshold gives an F1 above 0.
    """
    from scipy.special import expit

    values, inverse = np.unique(np.clip(logits, -LARGEST_CUT, LARGEST_CUT), return_inverse=True)
    n_on = np.bincount(inverse, actual, minlength=len(values))[::-1].cumsum()[::-1]  # at or above each value
    n_above = np.bincount(inverse, minlength=len(values))[::-1].cumsum()[::-1]
    scores = 2 * n_on / np.maximum(n_above + actual.sum(), 1)  # of a threshold just below each value
    highest = scores.max(initial=0)
    if highest <= 0:
        return 0.5, 0.0
    ends = expit(np.concatenate([[-LARGEST_CUT], values]).astype(np.float64))
    edges = np.flatnonzero(np.diff(np.concatenate([[False], scores >= PLATEAU * highest, [False]])))
    plateaus = [
        (ends[stop] - ends[start], (ends[start] + ends[stop]) / 2)
        for start, stop in edges.reshape(-1, 2)
        if scores[start:stop].max() == highest
    ]
    threshold = max(plateaus)[1]
    predicted = expit(logits.astype(np.float64)) > threshold
    return float(threshold), float(2 * (predicted & actual).sum() / max(1, predicted.sum() + actual.sum()))


def _before(values: NDArray[np.float32], indices: NDArray[np.int64]) -> NDArray[np.float64]:
    """The values just before these indices of a sorted list; minus infinity before the first."""
    return np.concatenate([[-np.inf], values])[indices]
