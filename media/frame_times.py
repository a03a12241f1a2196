"""The time interval of each video frame, and native audio frames averaged into these intervals.

Times are integer nanoseconds (int64), so that all machines agree: a native frame whose centre is exactly on a border
belongs to the video frame that begins there.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from abaw.media.stamps import read_stamps
from abaw.media.waveform import RATE_HZ

NS = 1_000_000_000
Nanoseconds = NDArray[np.int64]


@dataclass(frozen=True)
class FrameTimes:
    """When the frames of a video are shown.

    Attributes:
        edges_ns: (frames + 1,) ascending; frame i is shown from `edges_ns[i]` up to `edges_ns[i + 1]`. The first is 0.
        start_s: time of the first frame on the clock of its file, to which sound of the same file refers.
    """

    edges_ns: Nanoseconds
    start_s: float = 0.0


def regular_times(n_frames: int, fps: float) -> FrameTimes:
    """Frames at a constant rate, for videos without a file."""
    return FrameTimes(np.rint(np.arange(n_frames + 1) * (NS / fps)).astype(np.int64))


def read_times(file: Path, n_frames: int) -> FrameTimes:
    """Times of the frames of a video file by its own timestamps, see `read_stamps`.

    Args:
        n_frames: number of rows. Rows beyond the last picture continue at the mean rate.

    Raises:
        DataError: the file cannot be read or has no timestamps.
    """
    stamps = read_stamps(file)
    elapsed = stamps.shown - stamps.shown[0]
    edges = _extended(np.append(elapsed, elapsed[-1] + stamps.step), stamps.step, n_frames)
    ns = np.rint(edges * (stamps.base.numerator * NS / stamps.base.denominator)).astype(np.int64)
    return FrameTimes(ns, float(int(stamps.shown[0]) * stamps.base))


def _extended(edges: NDArray[np.float64], step: float, n_frames: int) -> NDArray[np.float64]:
    """Edges of exactly `n_frames` frames, cut or continued `step` apart."""
    n_missing = n_frames + 1 - len(edges)
    if n_missing <= 0:
        return edges[: n_frames + 1]
    return np.concatenate([edges, edges[-1] + step * np.arange(1, n_missing + 1)])


def sample_times(samples: NDArray) -> Nanoseconds:
    """Times of positions in a 16 kHz waveform, counted from its first sample; positions may be halves."""
    return np.rint(np.asarray(samples) * (NS / RATE_HZ)).astype(np.int64)


def rows_with_sound(edges_ns: Nanoseconds, start_ns: int, end_ns: int) -> tuple[int, int]:
    """First and last + 1 row whose interval overlaps a sound from `start_ns` to `end_ns`."""
    first = int(np.searchsorted(edges_ns[1:], start_ns, side="right"))
    last = int(np.searchsorted(edges_ns[:-1], end_ns, side="left"))
    return first, max(first, last)


class RowMeans:
    """Averages native frames into rows as they arrive.

    A row is the mean of the native frames whose centres fall into its interval; without any, it is the native frame
    nearest to the middle of the interval (the earlier of two). A row is returned once no later native frame can change
    it, so that memory does not grow with the length of the sound.

    Args:
        edges_ns: (rows + 1,) edges of the rows, on the clock of the centres.
    """

    def __init__(self, edges_ns: Nanoseconds) -> None:
        self._edges = edges_ns
        self._middles = edges_ns[:-1] + np.diff(edges_ns) // 2
        self._next = 0  # the first row that is not yet returned
        self._centres = np.zeros(0, dtype=np.int64)
        self._values: NDArray | None = None

    @property
    def n_done(self) -> int:
        """Number of rows returned so far, in order."""
        return self._next

    def add(self, centres_ns: Nanoseconds, values: NDArray) -> NDArray:
        """Take native frames, in the order of their centres, and return the rows that are ready.

        Args:
            centres_ns: (n,) ascending.
            values: (n, *shape).

        Returns:
            (rows, *shape) float32: rows `n_done` before the call to `n_done` after it.
        """
        self._centres = np.concatenate([self._centres, centres_ns])
        self._values = values if self._values is None else np.concatenate([self._values, values])
        if not len(self._centres):
            return self._means(self._next)
        return self._means(int(np.searchsorted(self._edges[1:], self._centres[-1], side="right")))

    def rest(self) -> NDArray:
        """The remaining rows, once all native frames have been added."""
        return self._means(len(self._edges) - 1)

    def _means(self, stop: int) -> NDArray:
        """Rows from the next one up to `stop`; drops native frames that no later row needs."""
        assert self._values is not None, "native frames come first"
        rows = slice(self._next, max(stop, self._next))
        if rows.stop == rows.start:
            return np.zeros((0, *self._values.shape[1:]), dtype=np.float32)
        first = np.searchsorted(self._centres, self._edges[rows], side="left")
        last = np.searchsorted(self._centres, self._edges[rows.start + 1 : rows.stop + 1], side="left")
        nearest = self._nearest(self._middles[rows])
        is_empty = first == last
        first, last = np.where(is_empty, nearest, first), np.where(is_empty, nearest + 1, last)
        means = _range_means(self._values, first, last)
        self._next = rows.stop
        needed = max(0, int(np.searchsorted(self._centres, self._edges[rows.stop], side="left")) - 1)
        self._centres, self._values = self._centres[needed:], self._values[needed:]
        return means

    def _nearest(self, times: Nanoseconds) -> NDArray[np.int64]:
        after = np.searchsorted(self._centres, times).clip(max=len(self._centres) - 1)
        before = (after - 1).clip(min=0)
        is_before = np.abs(times - self._centres[before]) <= np.abs(self._centres[after] - times)
        return np.where(is_before, before, after)


def _range_means(values: NDArray, first: NDArray, last: NDArray) -> NDArray:
    """Means of `values[first[i]:last[i]]`; no range is empty."""
    counts = last - first
    if (counts == 1).all():
        return values[first].astype(np.float32, copy=False)
    padded = np.concatenate([values, np.zeros_like(values[:1])])  # reduceat wants every index to exist
    sums = np.add.reduceat(padded, np.stack([first, last], axis=1).ravel(), axis=0)[::2]
    return (sums / counts.reshape(-1, *[1] * (values.ndim - 1))).astype(np.float32)
