"""Values of a feature that stay in the files of a store, for tables that do not fit into memory."""

import os
from array import array
from collections import OrderedDict
from collections.abc import Iterator
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from abaw.core.errors import StoreError
from abaw.store import FeatureStore
from abaw.store.plain_arrays import Block, FileStamp

GAP_BYTES = 2**18  # between rows on object storage that one request reads: a request takes longer than so many bytes
MAX_OPEN = 64  # files of a feature that stay open; systems allow a process 256 or 1,024
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
        self._opened = _OpenFiles()
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
        is_other = flat[1:] != flat[:-1]  # rows after the end of a video repeat the last one
        if is_other.all():
            values = self._take(flat)
        else:
            is_other = np.append(True, is_other)
            values = self._take(flat[is_other])[np.cumsum(is_other) - 1]
        return values.reshape(*rows.shape, *self.shape[1:])

    def _take(self, rows: NDArray[np.int64]) -> NDArray:
        values = np.empty((len(rows), *self.shape[1:]), dtype=self.dtype)
        files = self._file_of.take(rows)
        if (is_missing := files < 0).any():
            values[is_missing] = 0
        self._fill(values, rows, self._runs(files, self._offsets.take(rows)))
        return values

    def _runs(self, files: NDArray[np.int32], offsets: NDArray[np.int64]) -> Iterator[Run]:
        """Rows that follow each other in a file, file by file."""
        if not self._row_bytes:
            return iter(())
        row_bytes = np.frombuffer(self._row_bytes, dtype=np.int64).take(files[:-1])
        is_last = (files[1:] != files[:-1]) | (offsets[1:] - offsets[:-1] != row_bytes)
        first = np.append(0, np.flatnonzero(is_last) + 1)[: len(files)]
        stop = np.append(first[1:], len(files))
        files, offsets = files.take(first), offsets.take(first)
        order = np.lexsort((offsets, files))
        order = order[np.searchsorted(files, 0, sorter=order) :]
        return zip(*(numbers.take(order).tolist() for numbers in (files, offsets, first, stop)), strict=True)

    def _fill(self, values: NDArray, rows: NDArray[np.int64], runs: Iterator[Run]) -> None:
        """Fill runs of values, those of some rows of the table, from their files."""
        content, row_bytes = _bytes_of(values), values.nbytes // max(1, len(values))
        for number, in_file in groupby(runs, key=itemgetter(0)):
            path, stamp, dtype = self._files[number]
            file = self._opened.get(number, path, stamp)
            for _, offset, first, stop in in_file:
                if dtype == self.dtype:
                    _read_at(file.descriptor, offset, content[first * row_bytes : stop * row_bytes], path)
                    continue
                part = np.empty(values[first:stop].shape, dtype)
                _read_at(file.descriptor, offset, _bytes_of(part), path)
                values[first:stop] = part


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


class _OpenFile:
    """A file that is open until nobody uses it."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


class _OpenFiles:
    """The files that were read last, by number: to open and close one takes as long as to read a window. Threads may share it."""

    def __init__(self) -> None:
        self._files: OrderedDict[int, _OpenFile] = OrderedDict()
        self._lock = Lock()

    def get(self, number: int, path: Path, stamp: FileStamp) -> _OpenFile:
        """A file that is still the same.

        Raises:
            StoreError: it was replaced or deleted.
        """
        with self._lock:
            file = self._files.pop(number, None)
            try:
                file = file or _OpenFile(path)
            except (FileNotFoundError, NotADirectoryError) as error:
                raise _replaced(path) from error
            now = os.fstat(file.descriptor)
            wanted = (stamp.inode, stamp.n_bytes, stamp.modified_ns)
            if (now.st_ino, now.st_size, now.st_mtime_ns) != wanted or not now.st_nlink:
                raise _replaced(path)
            self._files[number] = file
            if len(self._files) > MAX_OPEN:
                self._files.popitem(last=False)
            return file


def _bytes_of(values: NDArray) -> memoryview:
    """The bytes of contiguous values, to be filled."""
    return values.reshape(-1).view(np.uint8).data


def _read_at(descriptor: int, offset: int, content: memoryview, path: Path) -> None:
    """Fill bytes with those of a file from an offset."""
    n_read = os.preadv(descriptor, (content,), offset)
    while n_read < len(content):  # a signal, or a file system that gives less at a time
        n = os.preadv(descriptor, (content[n_read:],), offset + n_read)
        if not n:  # it was cut off after it was opened
            raise _replaced(path)
        n_read += n


def _replaced(file: Path | str) -> StoreError:
    return StoreError(
        f"{file} was replaced or deleted since it was first read. Run the same command again when nothing else changes the store."
    )
