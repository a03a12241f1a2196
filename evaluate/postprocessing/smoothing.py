"""Smoothing of predictions over time: within a video, over the frames that are present."""

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator

from abaw.core.errors import UsageError
from abaw.evaluate.predictions import fill_gaps

Kind = Literal["box", "gaussian", "median", "savgol"]
KINDS: tuple[Kind, ...] = get_args(Kind)
MAX_WIDTH = 1001  # frames; up to here the sums of _savgol are exact


class Smoothing(BaseModel):
    """How one output is smoothed.

    Attributes:
        kind: `box` (mean), `gaussian` (its standard deviation is a quarter of the width; cut off at the window),
            `median`, or `savgol` (a parabola is fitted to the window; Savitzky and Golay 1964).
        width: frames of the window, odd, the frame itself in the middle; 1 is no smoothing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind = "box"
    width: int = Field(1, ge=1, le=MAX_WIDTH)

    @field_validator("width")
    @classmethod
    def _is_odd(cls, width: int) -> int:
        if width % 2 == 0:
            raise ValueError("a width is an odd number of frames")
        return width


def parse_smoothing(text: str) -> Smoothing:
    """The smoothing that `text` names, such as `box:51`.

    Raises:
        UsageError: the text is not KIND:WIDTH with a known kind and an odd width.
    """
    kind, _, width = text.partition(":")
    # only a few digits: int() of a long number is slow
    n_frames = int(width) if width.isascii() and width.isdecimal() and len(width) <= 4 else 0
    if kind not in KINDS or n_frames % 2 == 0 or n_frames > MAX_WIDTH:
        raise UsageError(
            f"Smoothing is written KIND:WIDTH, such as box:51, with a kind of {', '.join(KINDS)} and an odd number of frames "
            f"up to {MAX_WIDTH}; found {text!r}."
        )
    return Smoothing(kind=kind, width=n_frames)


def smooth(
    values: NDArray[np.floating], present: NDArray[np.bool_], kind: Kind, width: int | Sequence[int]
) -> NDArray[np.float32]:
    """Smooth the outputs of one video over time.

    A frame that is present is smoothed over the frames in its window that are present; windows are cut off at the ends
    of a video. Frames that are not present are filled by linear interpolation of the smoothed ones, whatever their
    values were. If no frame is present, all of them count as present.

    Args:
        values: (frames, outputs), finite where present.
        present: (frames,) bool.
        width: of the window in frames, odd; one for all outputs, or one for each. An output of width 1 is not changed.

    Returns:
        (frames, outputs) float32.
    """
    widths = np.broadcast_to(width, values.shape[1])
    assert (widths % 2 == 1).all() and widths.max(initial=1) <= MAX_WIDTH
    present = present if present.any() else np.ones_like(present)
    smoothed = values.astype(np.float32)
    for n_frames in np.unique(widths[widths > 1]):
        columns = np.flatnonzero(widths == n_frames)
        # missing values may be NaN, and NaN times zero is NaN
        known_values = np.where(present[:, None], values[:, columns], 0).astype(np.float64)
        columns_smoothed = np.zeros(known_values.shape, dtype=np.float32)
        columns_smoothed[present] = _SMOOTHERS[kind](known_values, present, int(n_frames))
        smoothed[:, columns] = columns_smoothed if present.all() else fill_gaps(columns_smoothed, present)
    return smoothed


# Each smoother takes (frames, outputs) float64 with 0 where not present, and returns the rows that are present.


def _box(values: NDArray[np.float64], present: NDArray[np.bool_], width: int) -> NDArray[np.float64]:
    rows = np.flatnonzero(present)
    start, end = np.maximum(rows - width // 2, 0), np.minimum(rows + width // 2 + 1, len(values))
    totals = np.cumsum(np.concatenate([np.zeros_like(values[:1]), values]), axis=0)
    counts = np.cumsum(np.concatenate([[0], present]))
    return (totals[end] - totals[start]) / (counts[end] - counts[start])[:, None]


def _gaussian(values: NDArray[np.float64], present: NDArray[np.bool_], width: int) -> NDArray[np.float64]:
    weights = np.exp(-0.5 * (_steps(width) / (width / 4)) ** 2)
    return _sums(values, weights)[present] / _sums(present[:, None].astype(np.float64), weights)[present]


def _median(values: NDArray[np.float64], present: NDArray[np.bool_], width: int) -> NDArray[np.float64]:
    """Exact medians from a filter that does not support gaps: gaps are filled with +inf and -inf in turns.

    With an even number of gaps in a window, as many are above as below, so its middle value is the median. With an odd
    number the median is the mean of two values: the middle value is then the upper one, or the lower one with the signs
    of the fill swapped.
    """
    from scipy.ndimage import median_filter

    margin = width // 2
    missing = np.pad(~present, margin, constant_values=True)
    fill = np.where(np.cumsum(missing) % 2, np.inf, -np.inf)
    inside = np.flatnonzero(present) + margin
    medians = np.empty((len(inside), values.shape[1]))
    for column, series in enumerate(np.pad(values, ((margin, margin), (0, 0))).T):
        upper, lower = (median_filter(np.where(missing, sign * fill, series), width)[inside] for sign in (1, -1))
        medians[:, column] = (upper + lower) / 2
    return medians


def _savgol(values: NDArray[np.float64], present: NDArray[np.bool_], width: int) -> NDArray[np.float64]:
    """Least-squares fit of a + b k + c k^2 to the present frames at distances k; gives `a`, the middle, by Cramer's rule."""
    steps = _steps(width)
    shown = present[:, None].astype(np.float64)
    # sums of integers: rounding makes them exact, and so the determinant of a few frames close together
    s0, s1, s2, s3, s4 = (np.rint(_sums(shown, steps**power)[present]) for power in range(5))
    t0, t1, t2 = (_sums(values, steps**power)[present] for power in range(3))
    c0, c1, c2 = s2 * s4 - s3**2, s2 * s3 - s1 * s4, s1 * s3 - s2**2
    is_exact = s0 <= 3  # a parabola passes through the frame itself and any two others
    determinant = np.where(is_exact, 1, s0 * c0 + s1 * c1 + s2 * c2)
    return np.where(is_exact, values[present], (c0 * t0 + c1 * t1 + c2 * t2) / determinant)


_SMOOTHERS: dict[Kind, Callable[[NDArray[np.float64], NDArray[np.bool_], int], NDArray[np.float64]]] = {
    "box": _box,
    "gaussian": _gaussian,
    "median": _median,
    "savgol": _savgol,
}


def _steps(width: int) -> NDArray[np.float64]:
    """(width,) distances from the middle of a window in frames."""
    return np.arange(width, dtype=np.float64) - width // 2


def _sums(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """For each frame the weighted sum over the window around it; zeros beyond the ends."""
    from scipy.signal import oaconvolve  # takes most of a second to import

    return oaconvolve(values, weights[::-1, None], mode="same", axes=0)
