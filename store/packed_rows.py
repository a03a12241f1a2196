"""Rows of many packed videos: those next to each other in a shard are read at once, and checked once."""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from threading import Lock

from numpy.typing import NDArray

from abaw.store.pack_index import PackedVideos
from abaw.store.packs import Packs
from abaw.store.plain_arrays import Block

SPAN_BYTES = 2**22  # read at once; videos of more than half of it are not read here
KEPT = 4  # spans


@dataclass
class _Span:
    """Rows of an array that are read at once, and what was read of them."""

    array: str
    start: int
    stop: int
    block: Block | None = None
    error: Exception | None = None
    lock: Lock = field(default_factory=Lock)


class RowsInTurn:
    """Reads rows of packed videos of a group, by preference in the order of `names`. Threads may read at the same time.

    Args:
        packs, path: of the group.
        videos: what is packed in it.
        names: of the videos that will be read.
        column: of the numbers beside the rows to be read instead, see `PackedVideo.beside`; empty for the rows.

    Attributes:
        names: those that can be read here, in the order of their rows: not long ones, nor any that is in two shards.
    """

    def __init__(self, packs: Packs, path: str, videos: PackedVideos, names: Iterable[str], column: str = "") -> None:
        self._packs, self._path, self._column = packs, path, f".{column}" if column else ""
        self._places: dict[str, tuple[_Span, int, int]] = {}  # with the first row, and the one after the last
        self._kept: OrderedDict[int, _Span] = OrderedDict()
        self._lock = Lock()
        self._plan([(*videos.rows_of(name), name) for name in names])
        self.names = tuple(self._places)

    def _plan(self, videos: list[tuple[str, int, int, str]]) -> None:
        """Put videos, given by array, rows and name, into spans of whole chunks."""
        span, name_before = _Span("", 0, 0), ""
        for name, start, stop, video in sorted(videos):
            if name != name_before:
                array, name_before = self._packs.array(self._path, f"{name}{self._column}"), name
                if array is not None:
                    rows, in_file, most = array.chunk_rows, array.file_rows, SPAN_BYTES // array.row_bytes
            if array is None:  # who reads it alone says what is wrong
                continue
            if stop - start > max(1, most // 2) or start // in_file != max(start, stop - 1) // in_file:
                continue
            begin, end = start // rows * rows, -(-stop // rows) * rows
            is_near = span.array == name and begin <= span.stop and end - span.start <= max(rows, most)
            if not is_near or begin // in_file != span.start // in_file:
                span = _Span(name, begin, begin)
            span.stop = max(span.stop, end)
            self._places[video] = span, start, stop

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def read(self, name: str) -> NDArray:
        """(rows, ...) of a video, in memory that it shares with others; checksums verified.

        Raises:
            ValueError: they, or rows next to them, are damaged, or are elsewhere by now.
        """
        return self.block(name).values

    def block(self, name: str) -> Block:
        """The same, and where the rows are."""
        span, start, stop = self._places[name]
        block = self._read(span)
        rows = slice(start - span.start, stop - span.start)
        if rows.stop > len(block.values):
            raise ValueError("the array that it is packed in is shorter than the index says")
        return Block(0, block.values[rows], block.file, block.stamp, block.offsets[rows])

    def _read(self, span: _Span) -> Block:
        with span.lock:
            if span.error is not None:
                raise ValueError("rows next to it are damaged") from span.error
            block = span.block
            if block is None:
                try:
                    block = span.block = self._packs.span(
                        self._path, f"{span.array}{self._column}", span.start, span.stop
                    )
                except ValueError as error:
                    span.error = error
                    raise
        with self._lock:
            self._kept[id(span)] = span
            self._kept.move_to_end(id(span))
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)[1].block = None
        return block
