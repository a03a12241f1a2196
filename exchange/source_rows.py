"""The common form of all layouts: the rows of one video, a block of them in memory at a time."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from abaw.core.errors import DataError
from abaw.core.names import MAX_FRAMES, MAX_VALUES
from abaw.media.links import check_file

BLOCK_ROWS = 4096  # a shard of the store
BLOCK_BYTES = 32 * 2**20
VALUES, PRESENT, FRAMES = "values", "present", "frames"


@dataclass(frozen=True)
class Rows:
    """The rows of one video as its source has them.

    Attributes:
        numbers: (rows,) int64, the frame number from 1 of each row, in the order of the blocks.
        n_frames: frames that the source knows of; at least the largest number.
        shape: of the values of one frame.
        dtype: of the values in the source.
        blocks: reads the values at each call: (some rows, *shape), together as many as `numbers`.
        fps: frames a second, if the source says so.
        is_sampled: the rows are spread over a clip, so that there are `n_frames` in its whole duration.
        is_guessed: the source says that `n_frames` is not from a video file; the video may be longer.
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
        """sha256 over names, sizes and times of its files; another digest means that they may hold something else."""

    def open(self) -> AbstractContextManager[Rows]:
        """Its rows, to be read while the context is open.

        Raises:
            DataError: the files are not as they should be.
        """


class ArrayHead(Protocol):
    """What is known of an array before it is read."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""

    @property
    def dtype(self) -> np.dtype:
        """Its dtype."""


def stamp(files: Iterable[Path]) -> str:
    """sha256 over names, sizes and modification times of files, or of what they lead to if they are links.

    Raises:
        DataError: one is no file, or a broken link.
    """
    digest = hashlib.sha256()
    for file in files:
        status = check_file(file).stat()
        digest.update(f"{file.name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def step_of(shape: tuple[int, ...], dtype: DTypeLike) -> int:
    """Rows of a block: as many as a shard of the store has, fewer where rows are large."""
    row_bytes = int(np.prod(shape, dtype=np.float64)) * np.dtype(dtype).itemsize
    return max(1, min(BLOCK_ROWS, BLOCK_BYTES // max(1, row_bytes)))


def pick_values(names: Iterable[str], place: str) -> str:
    """Which of the arrays of a video holds the features: `values`, or the only one that is no mask.

    Raises:
        DataError: it cannot be decided.
    """
    candidates = sorted(set(names) - {PRESENT, FRAMES})
    if VALUES in candidates:
        return VALUES
    if len(candidates) != 1:
        found = ", ".join(candidates[:5]) or "none"
        raise DataError(f"{place} should have an array `values`, or only one; found {found}. Rename the right one.")
    return candidates[0]


def check_mark(head: ArrayHead, n_rows: int, what: str, place: str) -> None:
    """Check `present` or `frames` before it is read: one whole number, or truth value, for each row.

    Raises:
        DataError: its shape or its dtype is another.
    """
    if head.shape != (n_rows,) or head.dtype.kind not in "bui":
        kind = "truth values" if what == PRESENT else "frame numbers"
        raise DataError(
            f"{place}: `{what}` should be {n_rows} {kind}, one for each row; found {head.dtype} of shape "
            f"{head.shape}. Correct it or leave it out."
        )


def frame_numbers(
    n_rows: int, present: ArrayLike | None, frames: ArrayLike | None
) -> tuple[NDArray[np.bool_], NDArray[np.int64], int]:
    """Which rows of a video are there, the frame number of each of those, and the number of frames.

    Args:
        n_rows: rows of the array.
        present: (rows,) 0 or 1; all are there if it is None.
        frames: (rows,) frame numbers from 1; row i is frame i+1 if it is None.
    """
    kept = np.ones(n_rows, dtype=np.bool_) if present is None else np.asarray(present).astype(np.bool_)
    if frames is None:
        return kept, np.flatnonzero(kept) + 1, n_rows
    numbers = np.asarray(frames).astype(np.int64)
    return kept, numbers[kept], int(numbers.max(initial=0))


def kept_blocks(
    read: Callable[[int, int], NDArray], kept: NDArray[np.bool_], step: int
) -> Callable[[], Iterator[NDArray]]:
    """Blocks of an array of which only some rows are kept; `read(start, stop)` gives its rows."""

    def blocks() -> Iterator[NDArray]:
        for start in range(0, len(kept), step):
            chosen = kept[start : start + step]
            if chosen.any():
                yield read(start, start + len(chosen))[chosen]

    return blocks


def check_array(head: ArrayHead, place: str) -> None:
    """Check an array of features before anything of it is read.

    Raises:
        DataError: it is no array (frames, values) of numbers, or has impossibly many.
    """
    if head.dtype.kind not in "fiu":
        raise DataError(f"{place} holds values of type {head.dtype}; features are numbers. Save them as float16.")
    n_values = int(np.prod(head.shape[1:], dtype=np.float64))
    if len(head.shape) < 2 or not 0 < n_values <= MAX_VALUES:
        raise DataError(
            f"{place} should hold an array (frames, values) with 1 to {MAX_VALUES:,} values of each frame; its shape "
            f"is {head.shape}. Save it in that form."
        )
    if head.shape[0] > MAX_FRAMES:
        raise DataError(
            f"{place} has {head.shape[0]:,} frames; more than {MAX_FRAMES:,} are no video. Save it as (frames, values)."
        )


def check_numbers(numbers: NDArray[np.int64], n_frames: int, place: str) -> None:
    """Check the frame numbers of a video.

    Raises:
        DataError: there are no frames, or a number is impossible or there twice.
    """
    if n_frames < 1:
        raise DataError(f"{place} has no frames. Delete it, or make it again.")
    lowest, highest = int(numbers.min(initial=1)), int(numbers.max(initial=n_frames))
    if lowest < 1:
        raise DataError(f"{place} has a frame number {lowest}; frames are numbered from 1. Correct the numbers.")
    if highest > MAX_FRAMES:
        raise DataError(
            f"{place} has a frame number {highest}; more than {MAX_FRAMES:,} frames are no video. Correct the numbers."
        )
    counts = np.bincount(numbers)
    if counts.max(initial=0) > 1:
        raise DataError(f"{place} has frame {int(counts.argmax())} more than once. Keep one.")
