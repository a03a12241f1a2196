"""Values of a feature that stay in the files of a store, for tables that do not fit into memory."""

import os
from array import array
from collections.abc import Iterator
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from abaw.core.errors import StoreError
from abaw.store import FeatureStore
from abaw.store.plain_arrays import Block, FileStamp

GAP_BYTES = 2**18  # between rows on object storage that one request reads: a request takes longer than so many bytes
Run = tuple[int, int, int, int]  # number of the file, first byte, and rows of the result from one to before another


class StoredRows:
    """(rows, *shape) values in local files, of which those of a batch are read when it is taken; zero where missing.

    The kernel keeps what was read in memory that is free, and drops it when it is needed. Threads may take rows at the
    same time.

    Args:
        shape: (rows, *shape).
        dtype: float16 or float32; holds every value.

    Attributes:
        n_readers: threads that read batches ahead of their use.
    """

    n_readers = 2

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.shape, self.dtype = shape, dtype
        self._files: list[tuple[Path, FileStamp, np.dtype]] = []
        self._row_bytes = array("q")  # of each file
        # of each row: its file, and the byte where it begins
        self._file_of = np.full(shape[0], -1, dtype=np.int32)
        self._offsets = np.zeros(shape[0], dtype=np.int64)

    @property
    def nbytes(self) -> int:
        """Bytes of all values."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def __len__(self) -> int:
        """Rows."""
        return self.shape[0]

    def place(self, block: Block, first_row: int) -> None:
        """Rows from `first_row` are those of a block."""
        if block.stamp is None:
            return
        file = (block.file, block.stamp, block.values.dtype)
        if self._files[-1:] != [file]:  # packed videos share a file
            self._files.append(file)
            self._row_bytes.append(block.values.dtype.itemsize * int(np.prod(self.shape[1:], dtype=np.int64)))
        rows = slice(first_row, first_row + len(block.offsets))
        self._file_of[rows] = np.where(block.offsets < 0, -1, len(self._files) - 1)
        self._offsets[rows] = block.offsets

    def repeat(self, rows: slice, indices: NDArray[np.int64]) -> None:
        """Row i of some rows becomes that of number `indices[i]` among them."""
        self._file_of[rows], self._offsets[rows] = self._file_of[rows][indices], self._offsets[rows][indices]

    def take(self, rows: NDArray[np.int64]) -> NDArray:
        """(*rows.shape, *shape) the values of some rows.

        Raises:
            StoreError: a file was replaced or deleted since the table was loaded.
            OSError: it cannot be read.
        """
        flat = rows.ravel()
        is_other = np.diff(flat, prepend=-1) != 0  # rows after the end of a video repeat the last one
        values = self._take(flat if is_other.all() else flat[is_other])
        if len(values) < len(flat):
            values = values[np.cumsum(is_other) - 1]
        return values.reshape(*rows.shape, *self.shape[1:])

    def _take(self, rows: NDArray[np.int64]) -> NDArray:
        values = np.empty((len(rows), *self.shape[1:]), dtype=self.dtype)
        files = self._file_of[rows]
        values[files < 0] = 0
        self._fill(values, rows, self._runs(files, self._offsets[rows]))
        return values

    def _runs(self, files: NDArray[np.int32], offsets: NDArray[np.int64]) -> Iterator[Run]:
        """Rows that follow each other in a file, file by file."""
        row_bytes = np.frombuffer(self._row_bytes, dtype=np.int64)[files] if self._row_bytes else offsets
        is_next = (np.diff(files) == 0) & (np.diff(offsets) == row_bytes[:-1])
        first = np.flatnonzero(np.append(True, ~is_next))[: len(files)]
        stop = np.append(first[1:], len(files))
        order = np.lexsort((offsets[first], files[first]))
        order = order[files[first[order]] >= 0]
        runs = (files[first[order]], offsets[first[order]], first[order], stop[order])
        return zip(*(numbers.tolist() for numbers in runs), strict=True)

    def _fill(self, values: NDArray, rows: NDArray[np.int64], runs: Iterator[Run]) -> None:
        """Fill runs of values, those of some rows of the table, from their files."""
        for number, in_file in groupby(runs, key=itemgetter(0)):
            path, stamp, dtype = self._files[number]
            descriptor = _open(path, stamp)
            try:
                for _, offset, first, stop in in_file:
                    into = values[first:stop]
                    part = into if dtype == self.dtype else np.empty(into.shape, dtype)
                    _read_at(descriptor, offset, part, path)
                    if part is not into:
                        into[...] = part
            finally:
                os.close(descriptor)


class FarRows(StoredRows):
    """`StoredRows` on object storage: the rows of a batch are requested at once, those close together by one request.

    Each row read is compared with what was read when the table was loaded.

    Args:
        store: with the files.
    """

    n_readers = 8

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype, store: FeatureStore) -> None:
        super().__init__(shape, dtype)
        self._store = store
        self._sums = np.zeros(shape[0], dtype=np.uint64)

    def place(self, block: Block, first_row: int) -> None:
        """Rows from `first_row` are those of a block."""
        super().place(block, first_row)
        self._sums[first_row : first_row + len(block.values)] = row_sums(block.values)

    def repeat(self, rows: slice, indices: NDArray[np.int64]) -> None:
        """Row i of some rows becomes that of number `indices[i]` among them."""
        super().repeat(rows, indices)
        self._sums[rows] = self._sums[rows][indices]

    def _fill(self, values: NDArray, rows: NDArray[np.int64], runs: Iterator[Run]) -> None:
        requests = self._requests(list(runs))
        ranges = [(self._files[file][0].as_posix(), start, stop) for file, start, stop, _ in requests]
        contents = self._store.read_ranges(ranges)
        for (file, start, end, parts), content in zip(requests, contents, strict=True):
            path, _, dtype = self._files[file]
            if content is None or len(content) != end - start:
                raise _replaced(f"{self._store.path}/{path}")
            for offset, first, stop in parts:
                n_values = (stop - first) * self._row_bytes[file] // dtype.itemsize
                part = np.frombuffer(content, dtype, n_values, offset - start).reshape(values[first:stop].shape)
                if (row_sums(part) != self._sums[rows[first:stop]]).any():
                    raise _replaced(f"{self._store.path}/{path}")
                values[first:stop] = part

    def _requests(self, runs: list[Run]) -> list[tuple[int, int, int, list[tuple[int, int, int]]]]:
        """A file, the first byte and the one after the last, and the runs between: offset, and rows of the result."""
        requests: list[tuple[int, int, int, list[tuple[int, int, int]]]] = []
        for file, offset, first, stop in runs:
            end = offset + (stop - first) * self._row_bytes[file]
            if requests and requests[-1][0] == file and offset - requests[-1][2] <= GAP_BYTES:
                _, start, before, parts = requests[-1]
                requests[-1] = (file, start, max(before, end), [*parts, (offset, first, stop)])
            else:
                requests.append((file, offset, end, [(offset, first, stop)]))
        return requests


def row_sums(values: NDArray) -> NDArray[np.uint64]:
    """(rows,) a checksum of each row: its 16-bit words times odd random numbers, modulo 2^64."""
    words = np.ascontiguousarray(values).reshape(len(values), -1).view(np.uint16)
    return words.astype(np.uint64) @ _odd_numbers(words.shape[1])


@lru_cache
def _odd_numbers(n: int) -> NDArray[np.uint64]:
    return np.random.default_rng(0).integers(0, 2**64, n, dtype=np.uint64) | np.uint64(1)


def _open(path: Path, stamp: FileStamp) -> int:
    """The descriptor of a file that is still the same."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _replaced(path) from error
    status = os.fstat(descriptor)
    if (status.st_ino, status.st_size, status.st_mtime_ns) != (stamp.inode, stamp.n_bytes, stamp.modified_ns):
        os.close(descriptor)
        raise _replaced(path)
    return descriptor


def _read_at(descriptor: int, offset: int, values: NDArray, path: Path) -> None:
    """Fill contiguous values with the bytes of a file from an offset."""
    n_read = os.preadv(descriptor, (values.data,), offset)
    while n_read < values.nbytes:  # a signal, or a file system that gives less at a time
        n = os.preadv(descriptor, (values.reshape(-1).view(np.uint8)[n_read:].data,), offset + n_read)
        if not n:  # it was cut off after it was opened
            raise _replaced(path)
        n_read += n


def _replaced(file: Path | str) -> StoreError:
    return StoreError(
        f"{file} was replaced or deleted since it was first read. Run the same command again when nothing else changes the store."
    )
