"""NumPy's file format, read without pickle and from front to back; `.npz` and `.npy` with one video each."""

import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from abaw.core.clock import LENGTH_FROM_CROPS, SAMPLED
from abaw.core.errors import DataError
from abaw.core.names import is_junk
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

HEADERS: dict[tuple[int, int], Callable[..., Any]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
MAX_COLUMN_MAJOR_BYTES = 4 * 2**30  # in an archive these cannot be read row by row


@dataclass(frozen=True)
class Header:
    """Shape and dtype of an array, and whether it is stored column by column."""

    shape: tuple[int, ...]
    dtype: np.dtype
    is_column_major: bool


def read_header(stream: IO[bytes], location: str) -> Header:
    """Read the header of a `.npy` file.

    Raises:
        DataError: it is not a `.npy` file, or has pickled objects.
    """
    try:
        version = np.lib.format.read_magic(stream)
        shape, is_column_major, dtype = HEADERS[version](stream)
        if not all(0 <= size < 2**63 for size in shape) or int(np.prod(shape, dtype=np.float64)) >= 2**63:
            raise ValueError("an impossible shape")
    except (zipfile.BadZipFile, OSError):  # about the archive; its own message is better
        raise
    except Exception as error:  # the header is an expression, and may hold anything
        raise DataError(f"{location} is not a NumPy array, or is cut off. Save it again with np.save.") from error
    if dtype.hasobject:
        raise DataError(f"{location} holds pickled objects, which are not read. Save it as float16.")
    return Header(shape, dtype, is_column_major)


def map_array(file: Path, location: str) -> NDArray:
    """An array that stays on disk until its values are used.

    Raises:
        DataError: it is not a `.npy` file, is cut off, or has pickled objects.
    """
    try:
        with file.open("rb") as stream:
            read_header(stream, location)
    except OSError as error:
        raise DataError(f"{location} cannot be read ({error.strerror}). Replace or delete it.") from error
    try:
        return np.lib.format.open_memmap(file, mode="r")
    except ValueError as error:
        raise DataError(f"{location} is cut off ({error}). Copy it again.") from error


def read_rows(file: Path, rows: slice | NDArray) -> NDArray:
    """Some rows of an array on disk; the mapping of the file does not stay in memory."""
    return np.array(np.lib.format.open_memmap(file, mode="r")[rows])


@dataclass(frozen=True)
class ArrayFile:
    """A video as `<video>.npy` (frames, *shape), and `<video>.present.npy` if there is a mask.

    Attributes:
        marks: of `abaw.core.clock.MARKS`, as the export lists them.
    """

    name: str
    file: Path
    mask: Path | None = None
    fps: float | None = None
    marks: tuple[str, ...] = ()

    def digest(self) -> str:
        """sha256 over its files, and the frame rate and marks that an export gives it."""
        return " ".join((stamp([file for file in (self.file, self.mask) if file]), str(self.fps), *self.marks))

    def content(self) -> str:
        """See `SourceVideo`."""
        return sample_stamp([file for file in (self.file, self.mask) if file])

    @contextmanager
    def open(self) -> Iterator[Rows]:
        """Its rows."""
        location = str(self.file)
        values = map_array(self.file, location)
        check_array(values, location)
        present = None
        if self.mask is not None:
            present = map_array(self.mask, str(self.mask))
            check_mark(present, len(values), PRESENT, str(self.mask))
        is_kept, numbers, n_frames = frame_numbers(len(values), present, None)
        shape, dtype = values.shape[1:], values.dtype
        step = step_of(shape, dtype)
        blocks = selected_blocks(lambda start, stop: read_rows(self.file, slice(start, stop)), is_kept, step)
        check_numbers(numbers, n_frames, location)
        is_sampled, is_guessed = SAMPLED in self.marks, LENGTH_FROM_CROPS in self.marks
        yield Rows(numbers, n_frames, shape, dtype, blocks, self.fps, is_sampled, is_guessed, present is None)


@dataclass(frozen=True)
class ArchiveFile:
    """A video as `<video>.npz` with `values` (frames, *shape) and optionally `present` or `frames`."""

    name: str
    file: Path

    def digest(self) -> str:
        """sha256 over its file."""
        return stamp([self.file])

    def content(self) -> str:
        """See `SourceVideo`."""
        return sample_stamp([self.file])

    @contextmanager
    def open(self) -> Iterator[Rows]:
        """Its rows. An archive is never unpacked; it is read from front to back, some rows at a time."""
        location = str(self.file)
        try:
            archive = zipfile.ZipFile(self.file)
        except zipfile.BadZipFile as error:
            raise DataError(f"{location} is not a .npz archive, or is cut off. Save it again with np.savez.") from error
        with archive:
            members = [name for name in archive.namelist() if name.endswith(".npy") and not is_junk(Path(name).name)]
            names = {Path(name).stem: name for name in members}
            chosen = names[pick_values(names, location)]
            with archive.open(chosen) as stream:
                header = read_header(stream, location)
            check_array(header, location)
            check_stored(header, archive.getinfo(chosen).compress_size, location)
            marks = {
                mark: _read_mark(archive, names[mark], header.shape[0], mark, location)
                for mark in (PRESENT, FRAMES)
                if mark in names
            }
            is_kept, numbers, n_frames = frame_numbers(header.shape[0], marks.get(PRESENT), marks.get(FRAMES))
            check_numbers(numbers, n_frames, location, header.shape[0])

            def blocks() -> Iterator[NDArray]:
                start = 0
                for block in _member_blocks(archive, chosen, location):
                    chosen_rows = is_kept[start : start + len(block)]
                    start += len(block)
                    if chosen_rows.any():
                        yield block[chosen_rows]

            yield Rows(numbers, n_frames, header.shape[1:], header.dtype, blocks, is_bare=not marks)


def _read_mark(archive: zipfile.ZipFile, name: str, n_rows: int, mark: str, location: str) -> NDArray:
    with archive.open(name) as stream:
        check_mark(read_header(stream, location), n_rows, mark, location)
    parts = list(_member_blocks(archive, name, location))
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


def _member_blocks(archive: zipfile.ZipFile, name: str, location: str) -> Iterator[NDArray]:
    """The rows of an array in an archive, in order."""
    with archive.open(name) as stream:
        header = read_header(stream, location)
        if header.is_column_major and len(header.shape) > 1:
            yield from _column_major(stream, header, location)
            return
        step = step_of(header.shape[1:], header.dtype)
        for start in range(0, header.shape[0], step):
            yield _take(stream, (min(step, header.shape[0] - start), *header.shape[1:]), header.dtype, location)


def _column_major(stream: IO[bytes], header: Header, location: str) -> Iterator[NDArray]:
    if int(np.prod(header.shape, dtype=np.float64)) * header.dtype.itemsize > MAX_COLUMN_MAJOR_BYTES:
        raise DataError(
            f"{location} is stored column by column and is large. Save it again through np.ascontiguousarray."
        )
    values = _take(stream, header.shape[::-1], header.dtype, location).T
    step = step_of(header.shape[1:], header.dtype)
    for start in range(0, header.shape[0], step):
        yield values[start : start + step]


def _take(stream: IO[bytes], shape: tuple[int, ...], dtype: np.dtype, location: str) -> NDArray:
    n_bytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    content = stream.read(n_bytes)
    if len(content) < n_bytes:
        raise DataError(f"{location} is cut off. Copy it again.")
    return np.frombuffer(content, dtype=dtype).reshape(shape)
