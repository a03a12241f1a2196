"""Doubles: rows of labels beyond the first of a frame. The files of the multi-task challenge list some images twice.

Both rows are trained and scored. What is kept by frame, such as outputs, stays so; doubles stand beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Doubles:
    """Further rows of labels, of frames that have one already; at least one.

    Attributes:
        rows: (doubles,) int64, ascending, the row of each one's frame: its number - 1.
        labels: (doubles, columns) as published; those of one frame are in the order of the file.
    """

    rows: NDArray[np.int64]
    labels: NDArray

    def columns(self, wanted: slice) -> "Doubles":
        """The same with some columns of the labels."""
        return Doubles(self.rows, self.labels[:, wanted])

    def between(self, start: int, stop: int) -> "Doubles | None":
        """Those of rows from `start` to before `stop`, with rows that count from `start`; None if there are none."""
        first, last = np.searchsorted(self.rows, [start, stop])
        return Doubles(self.rows[first:last] - start, self.labels[first:last]) if last > first else None


def joined(parts: Sequence[Doubles | None], starts: NDArray[np.int64]) -> Doubles | None:
    """Doubles of parts whose rows stand one after another, from `starts` on; labels as float32. None if no part has any."""
    found = [(part, start) for part, start in zip(parts, starts.tolist(), strict=True) if part is not None]
    if not found:
        return None
    rows = np.concatenate([part.rows + start for part, start in found])
    return Doubles(rows, np.concatenate([part.labels for part, _ in found]).astype(np.float32))


def same_doubles(a: Doubles | None, b: Doubles | None) -> bool:
    """True if both are of the same frames and equal, or neither is there."""
    if a is None or b is None:
        return a is b
    return bool(np.array_equal(a.rows, b.rows) and np.array_equal(a.labels, b.labels))
