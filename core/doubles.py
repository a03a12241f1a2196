"""Doubles: rows of labels beyond the first of a frame. The files of the multi-task challenge list some images twice.

Both rows are trained and scored. Arrays with a row for each frame, such as outputs, are not affected.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Doubles:
    """The second and later label rows of frames; at least one.

    Attributes:
        rows: (doubles,) int64, ascending, the row of each frame: its number - 1.
        labels: (doubles, columns) as published; those of one frame are in the order of the file.
    """

    rows: NDArray[np.int64]
    labels: NDArray

    def columns(self, columns: slice) -> "Doubles":
        """The same rows with some columns of the labels."""
        return Doubles(self.rows, self.labels[:, columns])

    def between(self, start: int, stop: int) -> "Doubles | None":
        """The doubles of rows `start` to `stop - 1`, counted from `start`; None if there are no such rows."""
        first, last = np.searchsorted(self.rows, [start, stop])
        return Doubles(self.rows[first:last] - start, self.labels[first:last]) if last > first else None


def joined(parts: Sequence[Doubles | None], starts: NDArray[np.int64]) -> Doubles | None:
    """Join the doubles of consecutive parts that begin at the rows `starts`; labels as float32. None if no part has any."""
    present = [(part, start) for part, start in zip(parts, starts.tolist(), strict=True) if part is not None]
    if not present:
        return None
    rows = np.concatenate([part.rows + start for part, start in present])
    return Doubles(rows, np.concatenate([part.labels for part, _ in present]).astype(np.float32))


def same_doubles(a: Doubles | None, b: Doubles | None) -> bool:
    """True if both have equal labels of the same frames, or both are None."""
    if a is None or b is None:
        return a is b
    return bool(np.array_equal(a.rows, b.rows) and np.array_equal(a.labels, b.labels))
