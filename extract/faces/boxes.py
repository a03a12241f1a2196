"""Arithmetic on boxes (left, top, right, bottom) in NumPy."""

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float32]


def areas(boxes: NDArray) -> NDArray:
    """(k,) areas of (k, 4) boxes."""
    return (boxes[:, 2] - boxes[:, 0]).clip(min=0) * (boxes[:, 3] - boxes[:, 1]).clip(min=0)


def centres(boxes: NDArray) -> NDArray:
    """(k, 2) centres of (k, 4) boxes."""
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def overlaps(first: NDArray, second: NDArray) -> NDArray:
    """(k, l) intersection over union of each of (k, 4) with each of (l, 4) boxes."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = (high - low).clip(min=0).prod(axis=2)
    union = areas(first)[:, None] + areas(second)[None] - shared
    return shared / np.maximum(union, 1e-9)


def distances(first: NDArray, second: NDArray) -> NDArray:
    """(k, l) distances of the centres, in units of the mean side (square root of the area) of the two boxes."""
    apart = np.linalg.norm(centres(first)[:, None] - centres(second)[None], axis=2)
    sides = (np.sqrt(areas(first))[:, None] + np.sqrt(areas(second))[None]) / 2
    return apart / np.maximum(sides, 1e-9)


def match(first: NDArray, second: NDArray, most_distance: float) -> list[tuple[int, int]]:
    """Match boxes one to one: best overlap first, then nearest centres.

    Boxes further apart than `most_distance` sides, or with sides that differ by a factor of two or more, do not match.

    Returns:
        Pairs of indices into `first` and `second`.
    """
    if not len(first) or not len(second):
        return []
    apart = distances(first, second)
    ratio = np.sqrt(np.maximum(areas(first), 1e-9)[:, None] / np.maximum(areas(second), 1e-9)[None])
    allowed = (apart <= most_distance) & (ratio > 0.5) & (ratio < 2)
    priority = np.where(allowed, overlaps(first, second) - apart, -np.inf)
    pairs = []
    while np.isfinite(priority).any():
        row, column = divmod(int(priority.argmax()), priority.shape[1])
        pairs.append((row, column))
        priority[row], priority[:, column] = -np.inf, -np.inf
    return pairs
