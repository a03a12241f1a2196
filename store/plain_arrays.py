"""Arrays whose chunks are not compressed, as `abaw` writes them, read without Zarr.

Zarr takes several times as long for each chunk. It still reads what is stored in any other way, such as compressed:
`find_plain_array` returns None for it.
"""

import io
import json
import math
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray
from zarr.abc.store import Store
from zarr.storage import FsspecStore, LocalStore

from abaw.store.schema import CHECKED_BYTES, MAX_CHUNKS
from abaw.store.writer import CHECKSUM_BYTES, MISSING_CHUNK
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
    """The rows of one file of an array.

    Attributes:
        start: its first row.
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
        """All values, checksums verified.

        Args:
            into: an array of the same shape to fill, of a dtype that holds the values.

        Raises:
            ValueError: it is damaged, or claims an impossible number of values or chunks.
            OSError: a file cannot be read.
        """
        self._check_claims()
        values = np.empty(self.shape, self.dtype) if into is None else into
        if values.shape != self.shape:
            raise ValueError(f"an array has the shape {self.shape} instead of {values.shape}")
        is_direct = values.dtype == self.dtype and values.flags.c_contiguous
        for number, start in enumerate(range(0, len(values), self.file_rows)):
            rows = values[start : start + self.file_rows]
            block = self._read_file(number, rows if is_direct else np.empty(rows.shape, self.dtype))
            if not is_direct:
                rows[...] = block.values
        return values

    @property
    def n_files(self) -> int:
        """Files that its rows are in."""
        return -(-self.shape[0] // self.file_rows)

    def block(self, number: int) -> Block:
        """The rows of one file, checksums verified; raises like `read`."""
        self._check_claims()
        n_rows = min(self.file_rows, self.shape[0] - number * self.file_rows)
        return self._read_file(number, np.empty((n_rows, *self.shape[1:]), self.dtype))

    def _file(self, number: int) -> Path:
        return self.folder.joinpath("c", str(number), *("0" for _ in self.shape[1:]))

    def _check_claims(self) -> None:
        n_chunks = -(-self.shape[0] // self.chunk_rows)
        if n_chunks > MAX_CHUNKS:
            raise ValueError(f"an array claims to have {n_chunks} chunks")
        n_bytes = self.shape[0] * self.row_bytes
        if n_bytes > CHECKED_BYTES and self._stored_bytes() < n_bytes:
            raise ValueError(f"an array claims to have {n_bytes} bytes, but its files are smaller")

    def _stored_bytes(self) -> int:
        files = map(self._file, range(self.n_files))
        return sum(file.stat().st_size for file in files if file.exists())

    def _open(self, file: Path) -> tuple[IO[bytes], FileStamp] | None:
        """A file and its stamp; None if it is missing."""
        try:
            stream = file.open("rb", buffering=0)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):  # as Zarr sees them
            return None
        return stream, FileStamp.of(stream)

    def _read_file(self, number: int, rows: NDArray) -> Block:
        """Fill the contiguous rows of a file."""
        file = self._file(number)
        offsets = np.full(len(rows), -1, dtype=np.int64)
        opened = self._open(file)
        if opened is None:
            rows[...] = self.fill_value
            return Block(number * self.file_rows, rows, file, None, offsets)
        stream, stamp = opened
        with stream:
            chunks = range(0, len(rows), self.chunk_rows)
            for start, offset in zip(chunks, self._chunk_offsets(stream, stamp.n_bytes), strict=False):
                chunk = rows[start : start + self.chunk_rows]
                if offset < 0:
                    chunk[...] = self.fill_value
                    continue
                self._read_chunk(stream, offset, chunk)
                offsets[start : start + self.chunk_rows] = offset + self.row_bytes * np.arange(len(chunk))
        return Block(number * self.file_rows, rows, file, stamp, offsets)

    def _chunk_offsets(self, stream: IO[bytes], n_bytes: int) -> list[int]:
        """Where the chunks of a file begin; -1 for a missing one."""
        chunk_bytes = self.chunk_rows * self.row_bytes + CHECKSUM_BYTES
        if not self.is_sharded:
            if n_bytes != chunk_bytes:
                raise ValueError(f"a chunk has {n_bytes} bytes instead of {chunk_bytes}")
            return [0]
        index = np.empty((self.file_rows // self.chunk_rows, 2), dtype=np.uint64)
        begin = n_bytes - index.nbytes - CHECKSUM_BYTES
        if begin < 0:
            raise ValueError("a shard is cut off")
        stream.seek(begin)
        _read_checked(stream, index, 0)
        offsets = []
        for offset, size in index.tolist():
            is_missing = offset == size == MISSING_CHUNK
            if not is_missing and (size != chunk_bytes or offset + size > begin):
                raise ValueError("the index of a shard is wrong")
            offsets.append(-1 if is_missing else offset)
        return offsets

    def _read_chunk(self, stream: IO[bytes], offset: int, rows: NDArray) -> None:
        stream.seek(offset)
        _read_checked(stream, rows, (self.chunk_rows - len(rows)) * self.row_bytes)


@dataclass(frozen=True)
class FarArray(PlainArray):
    """A `PlainArray` on object storage: a file is one object, which a request reads whole.

    Attributes:
        folder: key of the array in the store.
        store: where it is.
    """

    store: FsspecStore

    def _stored_bytes(self) -> int:
        return sys.maxsize  # unknown without requests: what is too short is noticed where it is read

    def _open(self, file: Path) -> tuple[IO[bytes], FileStamp] | None:
        content = read_key(self.store, file.as_posix())
        return None if content is None else (io.BytesIO(content), FileStamp(0, len(content), 0))


def _read_checked(stream: IO[bytes], values: NDArray, n_padding: int) -> None:
    """Fill contiguous values, and compare them and the padding after them with the checksum after that."""
    content = values.reshape(-1).view(np.uint8)
    fill_from(stream, content)
    after = stream.read(n_padding + CHECKSUM_BYTES)
    # this package takes nothing that might change
    content.flags.writeable = False
    checksum = google_crc32c.extend(google_crc32c.value(content), after[:n_padding])
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
