"""Writing the long arrays of packed videos, one large shard at a time."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from abaw.store.writer import CHECKSUM_BYTES, MISSING_CHUNK, put_checksum
from abaw.store.zarr_keys import array_template, encode_metadata

SHARD_BYTES = 2**30
CHUNK_BYTES, MAX_CHUNK_ROWS = 2**17, 2**16  # what is read and checked for a short video


class Shard:
    """A shard of Zarr's sharding codec that is filled from its begin.

    Args:
        row_shape, dtype: of its rows.
        chunk_rows, n_rows: rows of a chunk and of the shard.
        fill_value: of rows of its last chunk that nothing was put into.
    """

    def __init__(
        self, row_shape: tuple[int, ...], dtype: np.dtype, chunk_rows: int, n_rows: int, fill_value: Any
    ) -> None:
        self._dtype, self._chunk_shape, self._fill_value = dtype, (chunk_rows, *row_shape), fill_value
        self.n_rows, self.n_used = n_rows, 0
        self._step = math.prod(self._chunk_shape) * dtype.itemsize + CHECKSUM_BYTES
        n_chunks = n_rows // chunk_rows
        # pages take no memory before they are written
        self._content = np.empty(n_chunks * (self._step + 16) + CHECKSUM_BYTES, dtype=np.uint8)

    @property
    def room(self) -> int:
        """Rows that are free."""
        return self.n_rows - self.n_used

    def add(self, rows: NDArray) -> int:
        """Put rows behind those that are there; how many had room."""
        rows, chunk_rows = rows[: self.room], self._chunk_shape[0]
        n_added = 0
        while n_added < len(rows):
            number, skipped = divmod(self.n_used, chunk_rows)
            part = rows[n_added : n_added + chunk_rows - skipped]
            self._chunk(number)[skipped : skipped + len(part)] = part
            n_added, self.n_used = n_added + len(part), self.n_used + len(part)
        return n_added

    def skip_to(self, n_used: int) -> None:
        """Leave the rows before number `n_used` without values."""
        while self.n_used < n_used:
            number, skipped = divmod(self.n_used, self._chunk_shape[0])
            rows = self._chunk(number)[skipped : skipped + n_used - self.n_used]
            rows[...] = self._fill_value
            self.n_used += len(rows)

    def cut(self, n_used: int) -> None:
        """Forget the rows from number `n_used` on."""
        self.n_used = min(self.n_used, n_used)

    def encode(self) -> memoryview:
        """The file of the shard, as long as no row is added."""
        chunk_rows = self._chunk_shape[0]
        n_chunks = -(-self.n_used // chunk_rows)
        if self.n_used % chunk_rows:
            self._chunk(n_chunks - 1)[self.n_used % chunk_rows :] = self._fill_value
        index = np.full((self.n_rows // chunk_rows, 2), MISSING_CHUNK, dtype="<u8")
        for number in range(n_chunks):
            put_checksum(self._content[number * self._step : (number + 1) * self._step])
            index[number] = number * self._step, self._step
        end = self._content[n_chunks * self._step :][: index.nbytes + CHECKSUM_BYTES]
        end[: index.nbytes] = index.reshape(-1).view(np.uint8)
        put_checksum(end)
        return self._content[: n_chunks * self._step + len(end)].data

    def _chunk(self, number: int) -> NDArray:
        content = self._content[number * self._step : (number + 1) * self._step - CHECKSUM_BYTES]
        return content.view(self._dtype).reshape(self._chunk_shape)


def grid_of(row_shape: tuple[int, ...], dtype: np.dtype, shard_bytes: int) -> tuple[int, int]:
    """Rows of a chunk and of a shard."""
    row_bytes = max(1, math.prod(row_shape) * dtype.itemsize)
    chunk_rows = min(MAX_CHUNK_ROWS, max(1, min(CHUNK_BYTES, shard_bytes // 4) // row_bytes))
    return chunk_rows, chunk_rows * max(1, shard_bytes // (chunk_rows * row_bytes))


def name_of_array(row_shape: tuple[int, ...], dtype: np.dtype) -> str:
    """The name of the array of rows of one shape and dtype, such as `float16-768`."""
    return "-".join(filter(None, (dtype.name, "x".join(map(str, row_shape)))))


def array_metadata(name: str, row_shape: tuple[int, ...], dtype: np.dtype, grid: tuple[int, int], n_rows: int) -> bytes:
    """The `zarr.json` of such an array."""
    chunk_rows, shard_rows = grid
    # NaN is never stored: where it is read, nothing was written
    fill_value = math.nan if dtype.kind == "f" else None
    axes = ("row", *(f"dimension_{number}" for number in range(1, len(row_shape) + 1)))
    shape = (1, *row_shape)
    template = array_template(shape, dtype.name, (chunk_rows, *row_shape), (shard_rows, *row_shape), fill_value, axes)
    # the arrays of a group have different lengths
    names = tuple(f"{axis}_of_{name}" for axis in axes)
    return encode_metadata({**template, "shape": (n_rows, *row_shape), "dimension_names": names})
