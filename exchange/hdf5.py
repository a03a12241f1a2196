"""HDF5: a file per video, or a group per video in one file. Links within files are not followed.

Situ-RUCAIM3's features are `fts` in the group of a video, with `pad`, 1 where another frame's are repeated, or `valid`, 0 where
there are none; the frames that these mark are missing here.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from abaw.core.clock import LENGTH_FROM_CROPS, SAMPLED
from abaw.core.errors import DataError
from abaw.exchange.source_rows import (
    FRAMES,
    PRESENT,
    Rows,
    check_array,
    check_mark,
    check_numbers,
    check_stored,
    frame_numbers,
    pick_values,
    selected_blocks,
    step_of,
)
from abaw.exchange.source_stamps import sample_stamp, stamp

SUFFIXES = (".h5", ".hdf5")
CACHE_BYTES = 64 * 2**20  # so that a chunk of many frames is unpacked once, not once for every block
MAX_CHUNK_BYTES, MAX_CHUNKS = 2**29, 10_000_000
MAX_FPS = 10_000
FEATURES = "fts"  # of Situ-RUCAIM3
MARKS_OF_FEATURES = {"pad": 0, "valid": 1}  # and what they are where a frame has features of its own


@dataclass(frozen=True)
class Hdf5Video:
    """A video as the datasets `values` (frames, *shape) and optionally `present` or `frames`, or as `fts` and `pad` or `valid`.

    Attributes:
        group: the group with the datasets; empty for the file itself.
    """

    name: str
    file: Path
    group: str = ""

    def digest(self) -> str:
        """sha256 over its file."""
        return stamp([self.file])

    def content(self) -> str:
        """See `SourceVideo`."""
        return sample_stamp([self.file])

    @contextmanager
    def open(self) -> Iterator[Rows]:
        """Its rows."""
        with open_file(self.file) as opened:
            group = opened[self.group] if self.group else opened
            location = f"{self.file}/{self.group}".removesuffix("/")
            datasets = own_datasets(group, location)
            if not datasets and len(group):
                raise DataError(
                    f"{location} holds groups, such as {next(iter(group))!r}, and no array. A file has an array `values` (frames, "
                    "D) for its video, or a group with one for each video, named by the video. Copy them into this form."
                )
            of_features = [name for name in MARKS_OF_FEATURES if FEATURES in datasets and name in datasets]
            values = datasets[pick_values(datasets.keys() - {*of_features}, location)]
            check_array(values, location)
            check_stored(values, values.id.get_storage_size(), location)
            check_chunks(values, location)
            marks = {}
            for name in (PRESENT, FRAMES):
                if name in datasets:
                    check_mark(datasets[name], len(values), name, location)
                    marks[name] = np.asarray(datasets[name][...])
            for name in of_features:
                check_mark(datasets[name], len(values), name, location)
                present = np.asarray(datasets[name][...]) == MARKS_OF_FEATURES[name]
                marks[PRESENT] = present & np.asarray(marks.get(PRESENT, True), dtype=np.bool_)
            is_kept, numbers, n_frames = frame_numbers(len(values), marks.get(PRESENT), marks.get(FRAMES))
            check_numbers(numbers, n_frames, location, len(values))
            step = step_of(values.shape[1:], values.dtype)
            blocks = selected_blocks(lambda start, stop: np.asarray(values[start:stop]), is_kept, step)
            fps = _fps_of(group, location)
            is_sampled, is_guessed = (_is_marked(group, mark, location) for mark in (SAMPLED, LENGTH_FROM_CROPS))
            shape, is_bare = values.shape[1:], not marks
            yield Rows(numbers, n_frames, shape, values.dtype, blocks, fps, is_sampled, is_guessed, is_bare)


def open_file(file: Path) -> h5py.File:
    """Open a file for reading.

    Raises:
        DataError: it is not an HDF5 file, or is cut off.
    """
    try:
        return h5py.File(file, "r", rdcc_nbytes=CACHE_BYTES)
    except OSError as error:
        raise DataError(f"{file} is not an HDF5 file, or is cut off ({str(error)[:100]}). Copy it again.") from error


def own_datasets(group: h5py.Group, location: str) -> dict[str, h5py.Dataset]:
    """The datasets of a group.

    Raises:
        DataError: one of them is a link, or lies in another file.
    """
    datasets = {}
    for name in group:
        if not is_own(group, name):
            raise DataError(f"{location}: {name!r} is a link, and links are not followed. Copy its target.")
        member = group[name]
        if isinstance(member, h5py.Dataset):
            if member.is_virtual or member.external:
                raise DataError(f"{location}: the values of {name!r} lie in another file. Copy them into this one.")
            datasets[name] = member
    return datasets


def check_chunks(dataset: h5py.Dataset, location: str) -> None:
    """Check the chunks of a dataset: each is unpacked whole, and each costs time.

    Raises:
        DataError: they are huge, or tiny and many.
    """
    if dataset.chunks is None:
        return
    n_bytes = math.prod(dataset.chunks) * dataset.dtype.itemsize
    n_chunks = math.prod(-(-size // chunk) for size, chunk in zip(dataset.shape, dataset.chunks, strict=True))
    if n_bytes > MAX_CHUNK_BYTES or n_chunks > MAX_CHUNKS:
        raise DataError(
            f"{location}: {dataset.name} has {n_chunks:,} chunks of {n_bytes:,} bytes; at most {MAX_CHUNKS:,} of "
            f"{MAX_CHUNK_BYTES:,} are read. Save it with chunks of some thousand rows."
        )


def is_own(group: h5py.Group, name: str) -> bool:
    """True if a member is in the group itself and not a link to elsewhere."""
    return isinstance(group.get(name, getlink=True), h5py.HardLink)


def _fps_of(group: h5py.Group, location: str) -> float | None:
    if "fps" not in group.attrs:
        return None
    return checked_fps(group.attrs["fps"], location)


def _is_marked(group: h5py.Group, mark: str, location: str) -> bool:
    """True if a group has a mark, one of `abaw.core.clock.MARKS`.

    Raises:
        DataError: the attribute is not a truth value.
    """
    value = np.asarray(group.attrs.get(mark, False))
    if value.size != 1 or value.dtype.kind not in "bui" or value.item() not in (0, 1):
        raise DataError(f"{location} has an attribute {mark!r} that is neither true nor false. Correct or delete it.")
    return bool(value.item())


def checked_fps(value: object, location: str) -> float:
    """A frame rate from a file.

    Raises:
        DataError: it is not a frame rate.
    """
    try:
        fps = float(np.asarray(value).item())
    except (TypeError, ValueError):
        fps = 0.0
    if not 0 < fps <= MAX_FPS:
        raise DataError(
            f"{location} has an invalid frame rate {value!r}. Correct `fps`, or leave it out and use --fps."
        )
    return fps
