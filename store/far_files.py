"""Large files on object storage, of which parts are read; neighbouring videos are read by one request."""

import io
from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import IO

import numpy as np
from zarr.storage import FsspecStore

from abaw.store.plain_arrays import FarArray, FileStamp
from abaw.store.writer import CHECKSUM_BYTES, MISSING_CHUNK
from abaw.store.zarr_keys import read_end, read_ranges

BLOCK_BYTES = 2**24  # that are read at once where videos are read in turn: a request takes as long as a megabyte or two
MAX_BLOCKS = 8  # of an array that are kept


class FarFile:
    """One shard: its index, and blocks of it that were read.

    A part alone is read by a request of its own. Once a second part of a block is read, or one of the block after it,
    whole blocks are read: who reads videos in turn needs few requests, and who needs one video reads little more.

    Args:
        index_bytes: of the index at the end, with its checksum.
    """

    def __init__(self, store: FsspecStore, key: str, index_bytes: int, blocks: "BlockCache") -> None:
        self._store, self._key, self._blocks = store, key, blocks
        self._touched: set[int] = set()
        self._lock = Lock()
        self.end = read_end(store, key, index_bytes)
        self.n_bytes = 0
        if self.end is not None and len(self.end) == index_bytes:
            index = np.frombuffer(self.end[:-CHECKSUM_BYTES], dtype="<u8").reshape(-1, 2)
            ends = index.sum(axis=1)[(index != MISSING_CHUNK).all(axis=1)]
            self.n_bytes = int(ends.max(initial=0)) + index_bytes

    def read(self, start: int, stop: int) -> bytes:
        """Bytes from one to before another; fewer if the file ends before."""
        if start >= self.n_bytes - len(self.end or b""):
            return (self.end or b"")[start - self.n_bytes + len(self.end or b"") :][: stop - start]
        numbers = range(start // BLOCK_BYTES, (stop - 1) // BLOCK_BYTES + 1)
        with self._lock:
            is_in_turn = any(number in self._touched or number - 1 in self._touched for number in numbers)
            self._touched.update(numbers)
        if not is_in_turn or stop - start > BLOCK_BYTES:
            return read_ranges(self._store, [(self._key, start, stop)])[0] or b""
        blocks = [self._blocks.get(self, number) for number in numbers]
        return b"".join(blocks)[start - numbers[0] * BLOCK_BYTES :][: stop - start]

    def read_block(self, number: int) -> bytes:
        """A block, by a request."""
        stop = min(self.n_bytes, (number + 1) * BLOCK_BYTES)
        return read_ranges(self._store, [(self._key, number * BLOCK_BYTES, stop)])[0] or b""


class BlockCache:
    """The blocks that were read last. Threads that need the same one wait for it."""

    def __init__(self) -> None:
        self._blocks: OrderedDict[tuple[int, int], Future[bytes]] = OrderedDict()
        self._lock = Lock()

    def get(self, file: FarFile, number: int) -> bytes:
        """A block of a file."""
        key = (id(file), number)
        with self._lock:
            future = self._blocks.get(key)
            is_new = future is None
            if future is None:
                future = self._blocks[key] = Future()
            self._blocks.move_to_end(key)
            while len(self._blocks) > MAX_BLOCKS:
                self._blocks.popitem(last=False)
        if is_new:
            try:
                future.set_result(file.read_block(number))
            except BaseException as error:
                with self._lock:
                    self._blocks.pop(key, None)
                future.set_exception(error)
        return future.result()


@dataclass(frozen=True)
class LargeFarArray(FarArray):
    """An array on object storage in large files, of which parts are read."""

    files: dict[Path, FarFile] = field(default_factory=dict)
    blocks: BlockCache = field(default_factory=BlockCache)
    lock: Lock = field(default_factory=Lock, compare=False)

    def open(self, file: Path) -> tuple[IO[bytes], FileStamp] | None:
        """See `PlainArray`."""
        with self.lock:
            if file not in self.files:
                index_bytes = 16 * (self.file_rows // self.chunk_rows) + CHECKSUM_BYTES
                self.files[file] = FarFile(self.store, file.as_posix(), index_bytes, self.blocks)
            opened = self.files[file]
        return None if opened.end is None else (FarStream(opened), FileStamp(0, opened.n_bytes, 0))

    def expect(self, stream: IO[bytes], start: int, stop: int) -> None:
        """See `PlainArray`."""
        assert isinstance(stream, FarStream)
        stream.expect(start, stop)


class FarStream(io.RawIOBase, IO[bytes]):
    """Reads a `FarFile` from a position on."""

    def __init__(self, file: FarFile) -> None:
        super().__init__()
        self._file, self._position = file, 0
        self._start, self._content = 0, b""

    def expect(self, start: int, stop: int) -> None:
        """Read bytes from `start` to before `stop` now."""
        self._start, self._content = start, self._file.read(start, stop)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a byte."""
        assert whence == io.SEEK_SET
        self._position = offset
        return offset

    def readable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def]
        """Fill a buffer from the position on; the number of bytes."""
        start = self._position - self._start
        if start >= 0 and start + len(buffer) <= len(self._content):
            content = memoryview(self._content)[start : start + len(buffer)]
        else:
            content = memoryview(self._file.read(self._position, self._position + len(buffer)))
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)
