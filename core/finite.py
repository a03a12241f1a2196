"""Which rows hold finite numbers, and their range: fast for float16, which numpy compares one value at a time."""

import math

import numpy as np
from numpy.typing import NDArray

BLOCK = 2**16  # values at a time, so that they stay in a core's cache
MAGNITUDE, INFINITE = np.uint16(0x7FFF), 0x7C00  # of the bits of a float16: all but the sign; those of infinity


def largest_magnitude(values: NDArray) -> float:
    """The largest absolute value of floats; 0 if there are none, NaN or infinite if one is not finite."""
    if not values.size:
        return 0.0
    if values.dtype != np.float16:
        return max(float(values.max()), -float(values.min()))
    # without its sign, a larger float16 has larger bits: numbers, then infinity, then NaN
    bits = values.reshape(-1).view(np.uint16)
    highest = max((bits[start : start + BLOCK] & MAGNITUDE).max() for start in range(0, len(bits), BLOCK))
    return float(highest.view(np.float16))


def finite_rows(values: NDArray) -> NDArray[np.bool_]:
    """(rows,) bool, all floats of the row are finite, for values of shape (rows, ...)."""
    rows = values.reshape(len(values), math.prod(values.shape[1:]))
    if values.dtype != np.float16:
        return np.isfinite(rows).all(axis=1)
    if np.isfinite(largest_magnitude(values)):
        return np.ones(len(values), dtype=np.bool_)
    return (rows.view(np.uint16) & MAGNITUDE).max(axis=1, initial=0) < INFINITE
