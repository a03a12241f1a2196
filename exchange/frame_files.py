"""One `.npy` per frame, `<video>/00001.npy`, each of shape (D,) or (1, D): read by several threads."""

import hashlib
import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from abaw.core.errors import DataError
from abaw.core.names import composed, is_junk
from abaw.core.read_ahead import map_ahead
from abaw.exchange.npy import Header, read_header
from abaw.exchange.source_rows import MAX_VALUES, Rows, check_array, check_numbers, step_of
from abaw.media.links import check_file

SUFFIX = ".npy"
THREADS = 8  # opening a file is what takes long: 1 to 2.4 times as fast as one thread with files in the page cache
FILES_AT_ONCE = 128  # read by one thread in one go
MAX_FILE_BYTES = 8 * MAX_VALUES + 2**16
MAX_HEADER_BYTES = 128  # of the files that np.save writes for small arrays; longer ones are read another way
MAGIC_BYTES = 10  # magic string, version and length of the header


@dataclass(frozen=True)
class FrameFiles:
    """A video as a folder of files named by frame number.

    Attributes:
        folder: the folder; it and the files in it may be links.
    """

    folder: Path

    @property
    def name(self) -> str:
        """Name of the folder."""
        return composed(self.folder.name)

    def digest(self) -> str:
        """A hash over names, sizes and times of the files."""
        return self._stamps[0]

    def content(self) -> str:
        """A hash over the times at which the system changed the files: opening thousands of them would take long."""
        return self._stamps[1]

    @cached_property
    def _stamps(self) -> tuple[str, str]:
        lines, changes = [], []
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if is_frame(entry.name):
                    status = _status_of(entry)
                    lines.append(f"{entry.name}\0{status.st_size}\0{status.st_mtime_ns}")
                    changes.append(f"{entry.name}\0{status.st_ctime_ns}")
        first, second = (
            hashlib.sha256("\n".join(sorted(listed)).encode(errors="surrogateescape")).hexdigest()
            for listed in (lines, changes)
        )
        return first, second

    @contextmanager
    def open(self) -> Iterator[Rows]:
        """Its rows."""
        numbers, names = self._list()
        folder = str(self.folder)
        check_numbers(numbers, int(numbers.max(initial=0)), folder, len(numbers))
        first = read_frame(f"{folder}/{names[0]}")
        check_array(Header((len(names), *first.shape), first.dtype, False), f"{folder}/{names[0]}")

        def blocks() -> Iterator[NDArray]:
            step = max(1, min(FILES_AT_ONCE, step_of(first.shape, np.float32) // THREADS))
            parts = [names[start : start + step] for start in range(0, len(names), step)]
            yield from map_ahead(lambda part: self._read(part, first.shape), parts, THREADS)

        yield Rows(numbers, int(numbers[-1]), first.shape, first.dtype, blocks)

    def _list(self) -> tuple[NDArray[np.int64], tuple[str, ...]]:
        """Frame numbers, ascending, and the file name of each."""
        frames = []
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if is_frame(entry.name):
                    if not entry.is_file():
                        check_file(Path(entry.path))
                    frames.append((frame_number(entry.name[: -len(SUFFIX)], entry.path), entry.name))
        frames.sort()
        return np.array([number for number, _ in frames], dtype=np.int64), tuple(name for _, name in frames)

    def _read(self, names: Sequence[str], shape: tuple[int, ...]) -> NDArray:
        values = []
        for name in names:
            frame = read_frame(f"{self.folder}/{name}")
            if frame.shape != shape or frame.dtype.kind not in "fiu":
                raise DataError(
                    f"{self.folder}/{name} has {frame.dtype} values of shape {frame.shape}, others have {shape}. "
                    "Make them alike."
                )
            values.append(frame)
        return np.stack(values)


def frame_number(text: str, location: str) -> int:
    """The frame number in a file name.

    Raises:
        DataError: it is not a frame number.
    """
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise DataError(f"{location}: {text[:30]!r} is not a frame number from 1. Correct or delete it.")
    return int(text)


def is_frame(name: str) -> bool:
    """True if a file of this name holds a frame, or is meant to."""
    return name.lower().endswith(SUFFIX) and not is_junk(name)


def _status_of(entry: os.DirEntry) -> os.stat_result:
    try:
        return entry.stat()
    except OSError:
        return check_file(Path(entry.path)).stat()  # raises an error that names the cause


def read_frame(file: str) -> NDArray:
    """The values of one frame, without the leading 1 of (1, D).

    Raises:
        DataError: the file is not a NumPy array, is cut off or far too large, or holds pickled objects.
    """
    with open(file, "rb") as stream:
        content = stream.read(MAX_FILE_BYTES)
    n_header = MAGIC_BYTES + int.from_bytes(content[8:MAGIC_BYTES], "little")
    if content[6:8] == b"\1\0" and n_header <= MAX_HEADER_BYTES:
        header = _known_header(content[:n_header], file)
    else:
        stream_of_content = io.BytesIO(content)
        header, n_header = read_header(stream_of_content, file), stream_of_content.tell()
    n_bytes = int(np.prod(header.shape, dtype=np.float64)) * header.dtype.itemsize
    if len(content) - n_header != n_bytes:
        raise DataError(f"{file} is cut off, or has more than {MAX_VALUES:,} values. Copy it again.")
    flat = np.frombuffer(content, header.dtype, offset=n_header)
    values = flat.reshape(header.shape[::-1]).T if header.is_column_major else flat.reshape(header.shape)
    return values[0] if len(header.shape) == 2 and header.shape[0] == 1 else values


def _known_header(content: bytes, file: str) -> Header:
    """Headers are all the same within a video: each is parsed once."""
    try:
        return _parse_header(content)
    except DataError:
        return read_header(io.BytesIO(content), file)  # to name the file


@lru_cache(maxsize=64)
def _parse_header(content: bytes) -> Header:
    return read_header(io.BytesIO(content), "a header")
