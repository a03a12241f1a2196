"""Arrays whose chunks are not compressed, as `abaw` writes them, read without Zarr.

Zarr takes several times as long for each chunk. It still reads what is stored in any other way, such as compressed:
`find_plain_array` returns None for it.
"""

import io
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import IO, Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray
from zarr.abc.store import Store
from zarr.storage import FsspecStore, LocalStore

from abaw.store.schema import CHECKED_BYTES, MAX_CHUNKS
from abaw.store.writer import CHECKSUM_BYTES, CHUNK_ROWS, MISSING_CHUNK, SHARD_ROWS
from abaw.store.zarr_keys import METADATA, read_key

DTYPES = ("bool", "int8", "uint8", "int16", "int32", "int64", "float16", "float32", "float64")
KEYS = {
    *("zarr_format", "node_type", "shape", "data_type", "chunk_grid", "chunk_key_encoding", "fill_value", "codecs"),
    *("attributes", "storage_transformers", "dimension_names"),
}
# name and configuration of codecs
BYTES: tuple[str, Mapping[str, Any]] = ("bytes", {"endian": "little"})
CHECKSUM: tuple[str, Mapping[str, Any]] = ("crc32c", {})


@dataclass(frozen=True)
class FileStamp:
    """What changes when a file is replaced."""

    inode: int
    n_bytes: int
    modified_ns: int

    @classmethod
    def of(cls, stream: IO[bytes]) -> "FileStamp":
        """The stamp of an open file."""
        status = os.fstat(stream.fileno())
        return cls(status.st_ino, status.st_size, status.st_mtime_ns)


@dataclass(frozen=True)
class Block:
    """Some rows of one file of an array.

    Attributes:
        start: the first of them.
        values: (rows, ...).
        file, stamp: where they are, a key of a store that is far away; no stamp if the file is missing.
        offsets: (rows,) int64, the byte in the file where each row begins; -1 where its chunk is missing.
    """

    start: int
    values: NDArray
    file: Path
    stamp: FileStamp | None
    offsets: NDArray[np.int64]


@dataclass(frozen=True)
class PlainArray:
    """An array in files of uncompressed chunks, each followed by its CRC-32C.

    Attributes:
        folder: of the array.
        shape, dtype: of the array; only its first axis is split.
        file_rows, chunk_rows: rows in a file and in a chunk.
        is_sharded: a file has several chunks, and their index at its end.
        fill_value: of rows whose file or chunk is missing.
        attrs: attributes.
    """

    folder: Path
    shape: tuple[int, ...]
    dtype: np.dtype
    file_rows: int
    chunk_rows: int
    is_sharded: bool
    fill_value: Any
    attrs: Mapping[str, Any]

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return self.dtype.itemsize * math.prod(self.shape[1:])

    def read(self, into: NDArray | None = None) -> NDArray:
        """All values, see `PlainRows.read`."""
        return self.rows(0, self.shape[0]).read(into)

    def rows(self, start: int, stop: int) -> "PlainRows":
        """Some of its rows, unread."""
        return PlainRows(self, start, stop)

    def file(self, number: int) -> Path:
        """The file of the rows from `number * file_rows` on."""
        return self.folder.joinpath("c", str(number), *("0" for _ in self.shape[1:]))

    def stored_bytes(self, numbers: range) -> int:
        """Bytes of some files together."""
        files = map(self.file, numbers)
        return sum(file.stat().st_size for file in files if file.exists())

    def open(self, file: Path) -> tuple[IO[bytes], FileStamp] | None:
        """A file and its stamp; None if it is missing."""
        try:
            stream = file.open("rb", buffering=0)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):  # as Zarr sees them
            return None
        return stream, FileStamp.of(stream)

    def expect(self, stream: IO[bytes], start: int, stop: int) -> None:
        """Bytes from `start` to before `stop` of an open file will be read next."""

    def chunk_offsets(self, stream: IO[bytes], stamp: FileStamp) -> NDArray[np.int64]:
        """(chunks,) where the chunks of an open file begin; -1 for a missing one.

        Raises:
            ValueError: the file is damaged.
        """
        chunk_bytes = self.chunk_rows * self.row_bytes + CHECKSUM_BYTES
        if not self.is_sharded:
            if stamp.n_bytes != chunk_bytes:
                raise ValueError(f"a chunk has {stamp.n_bytes} bytes instead of {chunk_bytes}")
            return np.zeros(1, dtype=np.int64)
        n_chunks = self.file_rows // self.chunk_rows
        # many videos share a large file; stamps of files far away may be equal
        is_known = n_chunks > SHARD_ROWS // CHUNK_ROWS and stamp.inode
        read = _shard_index if is_known else _shard_index.__wrapped__
        return read(StampedFile(stream, stamp), n_chunks, chunk_bytes)


@dataclass(frozen=True)
class PlainRows:
    """Rows of an array in files, such as those of one video.

    Attributes:
        array: that has them.
        start, stop: its first row, and the one after its last.
    """

    array: PlainArray
    start: int
    stop: int

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows, ...)."""
        return (self.stop - self.start, *self.array.shape[1:])

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the values."""
        return self.array.dtype

    def part(self, start: int, stop: int) -> "PlainRows":
        """Some of these rows, which are numbered from 0."""
        if not 0 <= start <= stop <= self.shape[0]:
            raise ValueError(f"there are no rows {start} to {stop} among {self.shape[0]}")
        return PlainRows(self.array, self.start + start, self.start + stop)

    def read(self, into: NDArray | None = None) -> NDArray:
        """The values, checksums verified.

        Args:
            into: an array of the same shape to fill, of a dtype that holds the values.

        Raises:
            ValueError: they are damaged, or the array claims an impossible number of values or chunks.
            OSError: a file cannot be read.
        """
        self._check_claims()
        values = np.empty(self.shape, self.dtype) if into is None else into
        if values.shape != self.shape:
            raise ValueError(f"an array has the shape {self.shape} instead of {values.shape}")
        is_direct = values.dtype == self.dtype and values.flags.c_contiguous
        for start, stop in self._parts(self.array.file_rows):
            rows = values[start - self.start : stop - self.start]
            block = self._read(start, rows if is_direct else np.empty(rows.shape, self.dtype))
            if not is_direct:
                rows[...] = block.values
        return values

    @property
    def n_blocks(self) -> int:
        """Parts of some thousand rows of one file."""
        return sum(1 for _ in self._parts(self._block_rows()))

    def block(self, number: int) -> Block:
        """The values in one of these parts, checksums verified; its first row counts from the first of these rows.

        Raises like `read`.
        """
        self._check_claims()
        start, stop = next(islice(self._parts(self._block_rows()), number, None))
        return self._read(start, np.empty((stop - start, *self.shape[1:]), self.dtype))

    def in_one_block(self) -> Block:
        """All of them, which are in one file; see `block`."""
        self._check_claims()
        return self._read(self.start, np.empty(self.shape, self.dtype))

    def _parts(self, n_rows: int) -> Iterator[tuple[int, int]]:
        """First rows, and those after the last, of the parts between multiples of `n_rows` in the array."""
        bounds = range((self.start // n_rows + 1) * n_rows, self.stop, n_rows) if self.start < self.stop else ()
        starts = [self.start, *bounds] if self.start < self.stop else []
        yield from zip(starts, [*bounds, self.stop], strict=False)

    def _block_rows(self) -> int:
        """Rows of a block: whole chunks, and a whole part of a file."""
        chunks = self.array.file_rows // self.array.chunk_rows
        most = max(1, SHARD_ROWS // self.array.chunk_rows)
        return self.array.chunk_rows * next(n for n in range(min(most, chunks), 0, -1) if chunks % n == 0)

    def _check_claims(self) -> None:
        array = self.array
        n_chunks = max(-(-self.shape[0] // array.chunk_rows), array.file_rows // array.chunk_rows)
        if n_chunks > MAX_CHUNKS:
            raise ValueError(f"an array claims to have {n_chunks} chunks")
        n_bytes = self.shape[0] * array.row_bytes
        files = range(self.start // array.file_rows, -(-self.stop // array.file_rows))
        if n_bytes > CHECKED_BYTES and array.stored_bytes(files) < n_bytes:
            raise ValueError(f"an array claims to have {n_bytes} bytes, but its files are smaller")

    def _offsets(self, chunks: NDArray[np.int64], start: int, stop: int) -> NDArray[np.int64]:
        """(rows,) the byte of each row in a file, see `RowsInFile`."""
        rows = np.arange(start, stop) % self.array.file_rows
        begins = chunks[rows // self.array.chunk_rows]
        return np.where(begins < 0, -1, begins + rows % self.array.chunk_rows * self.array.row_bytes)

    def _read(self, start: int, values: NDArray) -> Block:
        """Fill contiguous values with the rows from `start` on, which are in one file."""
        array, stop = self.array, start + len(values)
        file = array.file(start // array.file_rows)
        opened = array.open(file)
        if opened is None:
            values[...] = array.fill_value
            return Block(start - self.start, values, file, None, np.full(len(values), -1, dtype=np.int64))
        stream, stamp = opened
        with stream:
            chunks = array.chunk_offsets(stream, stamp)
            offsets = self._offsets(chunks, start, stop)
            in_chunks = offsets[offsets >= 0]
            if len(in_chunks):
                chunk_bytes = array.chunk_rows * array.row_bytes + CHECKSUM_BYTES
                array.expect(stream, int(in_chunks.min()), int(in_chunks.max()) + chunk_bytes)
            row = start
            while row < stop:
                number, skipped = divmod(row % array.file_rows, array.chunk_rows)
                rows = values[row - start : row - start + array.chunk_rows - skipped]
                if chunks[number] < 0:
                    rows[...] = array.fill_value
                else:
                    self._read_chunk(stream, int(chunks[number]), skipped, rows)
                row += len(rows)
        return Block(start - self.start, values, file, stamp, offsets)

    def _read_chunk(self, stream: IO[bytes], offset: int, n_skipped: int, rows: NDArray) -> None:
        n_rows_after = self.array.chunk_rows - n_skipped - len(rows)
        stream.seek(offset)
        _read_checked(stream, rows, n_rows_after * self.array.row_bytes, n_skipped * self.array.row_bytes)


@dataclass(frozen=True)
class StampedFile:
    """An open file; equal to another whose stamp is equal."""

    stream: IO[bytes] = field(compare=False)
    stamp: FileStamp


@lru_cache(maxsize=256)
def _shard_index(file: StampedFile, n_chunks: int, chunk_bytes: int) -> NDArray[np.int64]:
    """(n_chunks,) where the chunks of a shard begin, see `PlainArray.chunk_offsets`."""
    index = np.empty((n_chunks, 2), dtype=np.uint64)
    begin = file.stamp.n_bytes - index.nbytes - CHECKSUM_BYTES
    if begin < 0:
        raise ValueError("a shard is cut off")
    file.stream.seek(begin)
    _read_checked(file.stream, index, 0)
    return decode_shard_index(index, begin, chunk_bytes)


def decode_shard_index(index: NDArray[np.uint64], n_bytes: int, chunk_bytes: int) -> NDArray[np.int64]:
    """(chunks,) where the chunks of a shard begin; -1 for a missing one.

    Args:
        index: (chunks, 2) offset and size of each.
        n_bytes: of the chunks together.
        chunk_bytes: of each.

    Raises:
        ValueError: it is impossible.
    """
    is_missing = (index == MISSING_CHUNK).all(axis=1)
    offsets, sizes = index[~is_missing].T
    if (
        (sizes != chunk_bytes).any()
        or (offsets > max(0, n_bytes - chunk_bytes)).any()
        or (n_bytes < chunk_bytes and len(sizes))
    ):
        raise ValueError("the index of a shard is wrong")
    begins = np.full(len(index), -1, dtype=np.int64)
    begins[~is_missing] = offsets
    begins.flags.writeable = False
    return begins


@dataclass(frozen=True)
class FarArray(PlainArray):
    """A `PlainArray` on object storage: a file is one object, which a request reads whole.

    Attributes:
        folder: key of the array in the store.
        store: where it is.
    """

    store: FsspecStore

    def stored_bytes(self, numbers: range) -> int:
        """See `PlainArray`."""
        return sys.maxsize  # unknown without requests: what is too short is noticed where it is read

    def open(self, file: Path) -> tuple[IO[bytes], FileStamp] | None:
        """See `PlainArray`."""
        content = read_key(self.store, file.as_posix())
        return None if content is None else (io.BytesIO(content), FileStamp(0, len(content), 0))


def _read_checked(stream: IO[bytes], values: NDArray, n_padding: int, n_before: int = 0) -> None:
    """Fill contiguous values, and compare them and the bytes before and after them with the checksum after that."""
    content = values.reshape(-1).view(np.uint8)
    before = np.empty(n_before, dtype=np.uint8)
    fill_from(stream, before)
    fill_from(stream, content)
    after = stream.read(n_padding + CHECKSUM_BYTES)
    # this package takes nothing that might change
    before.flags.writeable = content.flags.writeable = False
    checksum = google_crc32c.extend(google_crc32c.value(before), content) if n_before else google_crc32c.value(content)
    checksum = google_crc32c.extend(checksum, after[:n_padding])
    if after[n_padding:] != int(checksum).to_bytes(CHECKSUM_BYTES, "little"):
        raise ValueError("a chunk does not match its checksum")


def fill_from(stream: IO[bytes], content: NDArray[np.uint8]) -> None:
    """Read so many bytes.

    Raises:
        ValueError: the file ends before.
    """
    view, n_read = content.data, 0
    while n_read < len(view):
        n = stream.readinto(view[n_read:])  # type: ignore[attr-defined]
        if not n:
            raise ValueError("a file is cut off")
        n_read += n


def find_plain_array(store: Store, path: str) -> PlainArray | None:
    """The array at a path of a store; None if only Zarr can read it, or there is none."""
    if sys.byteorder != "little":
        return None
    if isinstance(store, FsspecStore):
        plain = _parsed(Path(path), read_key(store, f"{path}/{METADATA}") or b"")
        return None if plain is None else FarArray(**vars(plain), store=store)
    if not isinstance(store, LocalStore):
        return None
    folder = Path(store.root) / path
    try:
        return _parsed(folder, (folder / METADATA).read_bytes())
    except OSError:
        return None  # Zarr says what is wrong with it


def _parsed(folder: Path, metadata: bytes) -> PlainArray | None:
    """The array that metadata describe; None if only Zarr can read it."""
    try:
        return _parse(folder, json.loads(metadata))
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError, RecursionError):
        return None  # as above


def _parse(folder: Path, metadata: Mapping[str, Any]) -> PlainArray | None:
    shape, grid = tuple(metadata["shape"]), metadata["chunk_grid"]
    in_file = tuple(grid["configuration"]["chunk_shape"])
    codecs = [_named(codec) for codec in metadata["codecs"]]
    in_chunk, is_sharded = in_file, len(codecs) == 1
    if is_sharded:
        name, options = codecs[0]
        in_chunk = tuple(options["chunk_shape"])
        codecs = [_named(codec) for codec in options["codecs"]]
        of_index = [_named(codec) for codec in options["index_codecs"]]
        if name != "sharding_indexed" or of_index != [BYTES, CHECKSUM] or options["index_location"] != "end":
            return None
    dtype, fill_value = metadata["data_type"], metadata["fill_value"]
    is_plain = (
        not metadata.keys() - KEYS
        and (metadata["zarr_format"], metadata["node_type"]) == (3, "array")
        and not metadata.get("storage_transformers")
        and (grid["name"], _named(metadata["chunk_key_encoding"])) == ("regular", ("default", {"separator": "/"}))
        and dtype in DTYPES
        and (fill_value == "NaN" or type(fill_value) in (bool, int, float))
        and _is_split_by_rows(shape, in_file, in_chunk)
        and (codecs == [BYTES, CHECKSUM] or (codecs == [("bytes", {}), CHECKSUM] and np.dtype(dtype).itemsize == 1))
    )
    if not is_plain:
        return None
    fill = np.array(math.nan if fill_value == "NaN" else fill_value, dtype=dtype)
    if fill != fill_value and fill_value != "NaN":  # it does not fit
        return None
    attrs = dict(metadata.get("attributes", {}))
    return PlainArray(folder, shape, np.dtype(dtype), in_file[0], in_chunk[0], is_sharded, fill, attrs)


def _named(codec: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    return codec["name"], codec.get("configuration") or {}


def _is_split_by_rows(shape: tuple[int, ...], in_file: tuple[int, ...], in_chunk: tuple[int, ...]) -> bool:
    """True if files and chunks have whole rows, and files whole chunks."""
    sizes = (*shape, *in_file, *in_chunk)
    return (
        all(type(size) is int and size >= 0 for size in sizes)
        and len(shape) == len(in_file) == len(in_chunk) >= 1
        and shape[1:] == in_file[1:] == in_chunk[1:]
        and in_chunk[0] > 0
        and in_file[0] % in_chunk[0] == 0
        and math.prod(shape[1:]) > 0
    )
