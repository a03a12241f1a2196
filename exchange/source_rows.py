"""The common form of all layouts: the rows of one video, with one block in memory at a time."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from abaw.core.errors import DataError
from abaw.core.names import MAX_FRAMES, MAX_VALUES, check_last_frame
from abaw.core.unpacking import unpacks_too_far
from abaw.store.schema import ArrayHead

BLOCK_ROWS = 4096  # a shard of the store
BLOCK_BYTES = 32 * 2**20
VALUES, PRESENT, FRAMES = "values", "present", "frames"


@dataclass(frozen=True)
class Rows:
    """The rows of one video in its source.

    Attributes:
        numbers: (rows,) int64, the frame number from 1 of each row, in the order of the blocks.
        n_frames: frames that the source knows of; at least the largest number.
        shape: of the values of one frame.
        dtype: of the values in the source.
        blocks: reads the values at each call: (some rows, *shape), together as many as `numbers`.
        fps: frames a second, if the source gives them.
        is_sampled: the rows are spread over a clip, so that there are `n_frames` in its whole duration.
        is_guessed: the source marks `n_frames` as not taken from a video file; the video may be longer.
        is_bare: an array without frame numbers; its axes may have been mixed up.
    """

    numbers: NDArray[np.int64]
    n_frames: int
    shape: tuple[int, ...]
    dtype: np.dtype
    blocks: Callable[[], Iterator[NDArray]]
    fps: float | None = None
    is_sampled: bool = False
    is_guessed: bool = False
    is_bare: bool = False


class SourceVideo(Protocol):
    """One video in a source."""

    @property
    def name(self) -> str:
        """Name of the video."""

    def digest(self) -> str:
        """sha256 over names, sizes and times of its files; it changes when they may have changed."""

    def content(self) -> str:
        """A hash that changes, too, when a file was replaced by one of the same size and time, see `sample_stamp`."""

    def open(self) -> AbstractContextManager[Rows]:
        """Its rows, to be read while the context is open.

        Raises:
            DataError: the files are invalid.
        """


def step_of(shape: tuple[int, ...], dtype: DTypeLike) -> int:
    """The number of rows in a block: as many as in a shard of the store, fewer if rows are large."""
    row_bytes = int(np.prod(shape, dtype=np.float64)) * np.dtype(dtype).itemsize
    return max(1, min(BLOCK_ROWS, BLOCK_BYTES // max(1, row_bytes)))


def pick_values(names: Iterable[str], location: str) -> str:
    """Which of a video's arrays holds the features: `values`, or the only one that is not a mask.

    Raises:
        DataError: there is no such array, or more than one.
    """
    candidates = sorted(set(names) - {PRESENT, FRAMES})
    if VALUES in candidates:
        return VALUES
    if len(candidates) != 1:
        listed = ", ".join(candidates[:5]) or "none"
        raise DataError(f"{location} should have an array `values`, or only one; found {listed}. Rename the right one.")
    return candidates[0]


def check_mark(head: ArrayHead, n_rows: int, mark: str, location: str) -> None:
    """Check `present`, `frames` or the like before it is read: it must have one integer or truth value for each row.

    Raises:
        DataError: its shape or dtype is wrong.
    """
    if head.shape != (n_rows,) or head.dtype.kind not in "bui":
        kind = "frame numbers" if mark == FRAMES else "truth values"
        raise DataError(
            f"{location}: `{mark}` should be {n_rows} {kind}, one for each row; found {head.dtype} of shape "
            f"{head.shape}. Correct it or leave it out."
        )


def frame_numbers(
    n_rows: int, present: ArrayLike | None, frames: ArrayLike | None
) -> tuple[NDArray[np.bool_], NDArray[np.int64], int]:
    """Which rows of a video are present, their frame numbers, and the number of frames.

    Args:
        n_rows: rows of the array.
        present: (rows,) 0 or 1; None if all are present.
        frames: (rows,) frame numbers from 1; row i is frame i+1 if it is None.
    """
    is_kept = np.ones(n_rows, dtype=np.bool_) if present is None else np.asarray(present).astype(np.bool_)
    if frames is None:
        return is_kept, np.flatnonzero(is_kept) + 1, n_rows
    numbers = np.asarray(frames).astype(np.int64)
    return is_kept, numbers[is_kept], int(numbers.max(initial=0))


def selected_blocks(
    read_rows: Callable[[int, int], NDArray], is_kept: NDArray[np.bool_], step: int
) -> Callable[[], Iterator[NDArray]]:
    """Blocks with the rows of an array that are kept; `read_rows(start, stop)` returns rows of the array."""

    def blocks() -> Iterator[NDArray]:
        for start in range(0, len(is_kept), step):
            chosen = is_kept[start : start + step]
            if chosen.any():
                rows = read_rows(start, start + len(chosen))
                yield rows if chosen.all() else rows[chosen]

    return blocks


def check_array(head: ArrayHead, location: str) -> None:
    """Check an array of features before its values are read.

    Raises:
        DataError: it is not an array (frames, values) of numbers, or is impossibly large.
    """
    if head.dtype.kind not in "fiu":
        raise DataError(f"{location} holds values of type {head.dtype}; features are numbers. Save them as float16.")
    n_values = int(np.prod(head.shape[1:], dtype=np.float64))
    if len(head.shape) < 2 or not 0 < n_values <= MAX_VALUES:
        raise DataError(
            f"{location} should hold an array (frames, values) with 1 to {MAX_VALUES:,} values per frame; its shape "
            f"is {head.shape}. Save it in that form."
        )
    if head.shape[0] > MAX_FRAMES:
        raise DataError(
            f"{location} has {head.shape[0]:,} frames; the most is {MAX_FRAMES:,}. Save it as (frames, values)."
        )


def check_stored(head: ArrayHead, n_stored: int, location: str) -> None:
    """Check how many bytes an array takes in its file before it is unpacked.

    Raises:
        DataError: it would unpack to far more.
    """
    n_bytes = int(np.prod(head.shape, dtype=np.float64)) * head.dtype.itemsize
    if unpacks_too_far(n_bytes, n_stored):
        raise DataError(
            f"{location} stores {n_stored:,} bytes for {n_bytes:,} bytes of values, which are not unpacked. Save it again."
        )


def check_numbers(numbers: NDArray[np.int64], n_frames: int, location: str, n_rows: int | None = None) -> None:
    """Check the frame numbers of a video.

    Args:
        n_rows: rows of the video in the source; None where they are its frames, one after another.

    Raises:
        DataError: there are no frames, a number is out of range or repeated, or the last one is too large for so few rows.
    """
    if n_frames < 1:
        raise DataError(f"{location} has no frames. Delete it, or create it again.")
    lowest, highest = int(numbers.min(initial=1)), int(numbers.max(initial=n_frames))
    if lowest < 1:
        raise DataError(f"{location} has a frame number {lowest}; frames are numbered from 1. Correct the numbers.")
    if highest > MAX_FRAMES:
        raise DataError(
            f"{location} has a frame number {highest}; the largest allowed is {MAX_FRAMES:,}. Correct the numbers."
        )
    if n_rows is not None:
        check_last_frame(n_frames, n_rows, location)
    counts = np.bincount(numbers)
    if counts.max(initial=0) > 1:
        raise DataError(f"{location} has frame {int(counts.argmax())} more than once. Keep one.")
