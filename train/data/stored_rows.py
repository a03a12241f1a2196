"""Values of a feature that stay in the files of a local store, for tables that do not fit into memory."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from abaw.core.errors import StoreError
from abaw.store.plain_arrays import Block, FileStamp, fill_from


class StoredRows:
    """(rows, *shape) values, of which those of a batch are read when it is taken; zero where there are none.

    The kernel keeps what was read in memory that is free, and drops it when it is needed.

    Args:
        shape: (rows, *shape).
        dtype: float16 or float32; holds every value.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.shape, self.dtype = shape, dtype
        self._files: list[tuple[Path, FileStamp, np.dtype]] = []
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
        self._files.append((block.file, block.stamp, block.values.dtype))
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
        values = np.zeros((len(flat), *self.shape[1:]), dtype=self.dtype)
        file_of = self._file_of[flat]
        for number in np.unique(file_of[file_of >= 0]).tolist():
            self._fill(values, number, np.flatnonzero(file_of == number), self._offsets[flat])
        return values.reshape(*rows.shape, *self.shape[1:])

    def _fill(self, values: NDArray, number: int, places: NDArray[np.int64], offsets: NDArray[np.int64]) -> None:
        """Fill the rows `places` of some values from a file; rows that follow each other in it are read at once."""
        file, stamp, dtype = self._files[number]
        row_bytes = dtype.itemsize * int(np.prod(self.shape[1:], dtype=np.int64))
        is_next = (np.diff(places) == 1) & (np.diff(offsets[places]) == row_bytes)
        try:
            with file.open("rb", buffering=0) as stream:
                if FileStamp.of(stream) != stamp:
                    raise FileNotFoundError
                for run in np.split(places, np.flatnonzero(~is_next) + 1):
                    into = values[run[0] : run[-1] + 1]
                    part = into if dtype == self.dtype else np.empty(into.shape, dtype)
                    stream.seek(int(offsets[run[0]]))
                    fill_from(stream, part.reshape(-1).view(np.uint8))
                    if part is not into:
                        into[...] = part
        except (FileNotFoundError, NotADirectoryError) as error:
            raise StoreError(
                f"{file} was replaced or deleted since it was first read. Run the same command again when nothing else changes the store."
            ) from error
