"""Packing a store: many videos into a few large files, see `abaw.store.packs`.

Videos are copied into a shard, then the shard is written, then a part of the index that has them, and only then are
they deleted by themselves: a process that is killed loses nothing, and the next one goes on with what is not packed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from abaw.core.errors import StoreError, UnreachableError
from abaw.core.progress import OnFrames, Reporter
from abaw.store import FeatureStore
from abaw.store.claims import ALL, claimed
from abaw.store.location import room_for
from abaw.store.pack_index import MADE_WHEN_READ, PackedVideo
from abaw.store.plain_arrays import PlainRows
from abaw.store.shards import SHARD_BYTES, Shard, array_metadata, grid_of, name_of_array
from abaw.store.writer import QUALITY

DELETED_AT_ONCE = 256
FULL = 1 / 2  # of a shard: one with fewer rows that count is packed again, together with new videos


@dataclass
class PackSummary:
    """What `pack_store` did.

    Attributes:
        n_videos: features of videos, and labels of videos, that were packed.
        n_bytes: of their values.
        n_shards: large files that are in the store now.
        damaged: sentences about what cannot be read, and so was not packed.
    """

    n_videos: int = 0
    n_bytes: int = 0
    n_shards: int = 0
    damaged: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Rows:
    """A feature of a video, or the labels of one, to be packed.

    Attributes:
        row_shape, dtype, n_rows: of its array.
        attrs: attributes.
        present: (rows,) bool; None if all are, and for labels.
        blocks: reads its rows in turn.
        quality: (rows,) float32 of the crops; None where it is unknown, and for labels.
    """

    row_shape: tuple[int, ...]
    dtype: np.dtype
    n_rows: int
    attrs: Mapping[str, Any]
    present: NDArray[np.bool_] | None
    blocks: Callable[[], Iterator[NDArray]]
    quality: NDArray[np.float32] | None = None

    def packed_at(self, name: str, first_row: int) -> PackedVideo:
        """The entry of the index."""
        attrs = {key: value for key, value in self.attrs.items() if key not in MADE_WHEN_READ}
        array = name_of_array(self.row_shape, self.dtype)
        return PackedVideo(name, array, first_row, self.n_rows, attrs, self.present)


def pack_store(store: FeatureStore, reporter: Reporter, shard_bytes: int = SHARD_BYTES) -> PackSummary:
    """Pack every complete video and its labels; those that are packed stay as they are.

    Needs memory for a shard, and for two where a feature has videos of both float16 and float32; on the disk, room for a shard.

    Args:
        store: opened with `FeatureStore.create`.
        shard_bytes: of a new array's shards.

    Raises:
        StoreError: another command is writing the store, the index of what is packed is damaged, or no space is left.
    """
    summary = PackSummary()
    with claimed(store, [ALL], ""), room_for(store.path):
        groups = [_Group(store, f"features/{feature}", shard_bytes, summary) for feature in store.features()]
        groups += [_Group(store, f"labels/{task}", shard_bytes, summary) for task in store.tasks()]
        names = [group.begin() for group in groups]
        reporter.start("pack", sum(map(len, names)), "videos")
        for group, its_names in zip(groups, names, strict=True):
            group.pack(its_names, reporter.advance)
        reporter.finish()
    return summary


class _Group:
    """A feature, or the labels of a task, of which videos are packed."""

    def __init__(self, store: FeatureStore, path: str, shard_bytes: int, summary: PackSummary) -> None:
        self.store, self.path, self.shard_bytes, self.summary = store, path, shard_bytes, summary
        self.packs = store.packs
        self._room, _, self._name = path.partition("/")
        self._arrays: dict[str, _LongArray] = {}

    def begin(self) -> list[str]:
        """Delete what killed processes left; the names of what is to be packed, sorted."""
        self.packs.sweep(self.path)
        packed, alone = self.packs.look(self.path), self.store.unpacked(self.path)
        if self._room == "features":
            complete, incomplete = self.store.complete_and_incomplete(self._name)
            names = [name for name in sorted({*alone} - {*incomplete}) if name in complete]
        else:
            names = alone
        left = [name for name in names if name in packed and self._is_left_over(name, packed[name])]
        self._drop(left)
        names = sorted(set(names) - set(left))
        return sorted({*names, *self._sparse(is_more=bool(names))})

    def pack(self, names: Sequence[str], on_videos: OnFrames) -> None:
        """Pack videos, and delete shards of which nothing counts any more."""
        for name in names:
            try:
                self._add(name)
            except UnreachableError:
                raise
            except StoreError as error:
                self.summary.damaged.append(str(error))
            on_videos(1, name)
        for array in self._arrays.values():
            array.flush()
        self.packs.merge(self.path)
        if sentence := self.packs.lost_index(self.path):
            self.summary.damaged.append(sentence)
            return
        for name in self.packs.arrays(self.path):
            self._drop_dead_shards(name)

    def commit(self, videos: Sequence[PackedVideo], n_shards: Mapping[str, int]) -> None:
        """Let packed videos count, and delete those by themselves."""
        self.packs.put_part(self.path, videos, n_shards)
        alone = set(self.store.unpacked(self.path))
        self._drop([video.name for video in videos if video.name in alone])
        self.summary.n_videos += len(videos)
        self.packs.merge(self.path)

    def _drop(self, names: Sequence[str]) -> None:
        for start in range(0, len(names), DELETED_AT_ONCE):
            self.store.drop_unpacked([f"{self.path}/{name}" for name in names[start : start + DELETED_AT_ONCE]])

    def _add(self, name: str) -> None:
        packed = self.packs.find(self.path, name)
        rows = self._rows_alone(name) if packed is None else self._rows_packed(packed)
        if rows is None:  # labels whose writing was cut off
            return
        array = name_of_array(rows.row_shape, rows.dtype)
        if array not in self._arrays:
            self._arrays[array] = _LongArray(self, array, rows.row_shape, rows.dtype)
        self._arrays[array].add(name, rows)
        self.summary.n_bytes += rows.n_rows * self._arrays[array].row_bytes

    def _rows_alone(self, name: str) -> _Rows | None:
        if self._room == "labels":
            content = self.store.label_content(self._name, name)
            if content is None:
                return None
            values, attrs = content
            return _Rows(values.shape[1:], values.dtype, len(values), attrs, None, lambda: iter([values]))
        attrs = self.store.video_attrs(self._name, name)
        stored = self.store.stored_video(self._name, name)
        if stored is None:
            whole = self.store.read(self._name, name)
            shape, dtype, present = whole.values.shape, whole.values.dtype, whole.present
            blocks: Callable[[], Iterator[NDArray]] = partial(iter, [whole.values])
        else:
            shape, dtype, present = stored.rows.shape, stored.rows.dtype, stored.present
            blocks = partial(map, lambda number: stored.block(number).values, range(stored.n_blocks))
        quality = self.store.read_quality(self._name, name) if attrs.get(QUALITY) is True else None
        return _Rows(shape[1:], dtype, shape[0], attrs, None if present.all() else present, blocks, quality)

    def _rows_packed(self, packed: PackedVideo) -> _Rows:
        try:
            rows = self.packs.rows(self.path, packed)
            has_quality = packed.attrs.get(QUALITY) is True
            quality = self.packs.rows(self.path, packed.beside(QUALITY)).read() if has_quality else None
        except ValueError as error:
            raise StoreError(f"{packed.name} in {self.store.path}/{self.path} is damaged ({error}).") from error
        blocks = partial(self._checked, packed, rows)
        return _Rows(rows.shape[1:], rows.dtype, packed.n_rows, packed.attrs, packed.present, blocks, quality)

    def _checked(self, packed: PackedVideo, rows: PlainRows) -> Iterator[NDArray]:
        try:
            for number in range(rows.n_blocks):
                yield rows.block(number).values
        except ValueError as error:
            raise StoreError(f"{packed.name} in {self.store.path}/{self.path} is damaged ({error}).") from error

    def _is_left_over(self, name: str, packed: PackedVideo) -> bool:
        """True if a video by itself is what a process had packed when it was killed, or no more than files of one."""
        if self.packs.find(self.path, name) is not None:
            return True
        try:
            alone, copy = self._rows_alone(name), self._rows_packed(packed)
            if alone is None or not alone.packed_at(name, packed.first_row).is_same(packed):
                return False
            one, other = (np.ones(0) if rows.quality is None else rows.quality for rows in (alone, copy))
            if not np.array_equal(one, other):
                return False
            start = 0
            for values in alone.blocks():
                stop = start + len(values)
                first = packed.first_row
                there = self.packs.rows(self.path, packed).array.rows(first + start, first + stop).read()
                if there.tobytes() != values.tobytes():
                    return False
                start = stop
        except (StoreError, ValueError):
            return False
        return copy.n_rows == start

    def _sparse(self, is_more: bool) -> list[str]:
        """Videos in shards that are mostly empty or deleted, if packing them again makes fewer shards.

        Args:
            is_more: there are others to pack with them.
        """
        names = list[str]()
        for name in self.packs.arrays(self.path):
            array = self.packs.array(self.path, name)
            if array is None or name.endswith(f".{QUALITY}"):
                continue
            videos, first, stop = self.packs.look(self.path).spans(name)
            begins, ends = first // array.file_rows, np.maximum(first, stop - 1) // array.file_rows
            n_rows = np.bincount(begins, weights=stop - first) if len(first) else np.zeros(0)
            is_sparse = (n_rows > 0) & (n_rows < FULL * array.file_rows)
            is_sparse[ends[(begins != ends) & (ends < len(is_sparse))]] = False  # the end of a long video is in it
            n_sparse, n_needed = int(is_sparse.sum()), -(-int(n_rows[is_sparse].sum()) // array.file_rows)
            if n_needed + (not is_more) <= n_sparse and n_sparse:
                names += [video for video, number in zip(videos, begins.tolist(), strict=True) if is_sparse[number]]
        return names

    def _drop_dead_shards(self, name: str) -> None:
        array = self.packs.array(self.path, name)
        if array is None:
            return
        _, first, stop = self.packs.look(self.path).spans(name.removesuffix(f".{QUALITY}"))
        is_used = stop > first
        begins, ends = first[is_used] // array.file_rows, (stop[is_used] - 1) // array.file_rows
        live = {
            number
            for pair in set(zip(begins.tolist(), ends.tolist(), strict=True))
            for number in range(pair[0], pair[1] + 1)
        }
        for number in self.packs.shards(self.path, name):
            if number in live:
                self.summary.n_shards += 1
            else:
                self.packs.drop_shard(self.path, name, number, len(array.shape))


class _LongArray:
    """An array that videos are packed into, shard by shard."""

    def __init__(self, group: _Group, name: str, row_shape: tuple[int, ...], dtype: np.dtype) -> None:
        self._group, self._name, self._row_shape, self._dtype = group, name, row_shape, dtype
        existing = group.packs.array(group.path, name)
        chunk_rows, shard_rows = grid_of(row_shape, dtype, group.shard_bytes)
        if existing is not None:
            chunk_rows, shard_rows = existing.chunk_rows, existing.file_rows
        self._grid = chunk_rows, shard_rows
        packed = group.packs.look(group.path)
        last_row = int(packed.spans(name)[2].max(initial=0)) - 1
        self._number = max(packed.n_shards(name), last_row // shard_rows + 1)
        self._n_rows = existing.shape[0] if existing is not None else 0
        fill_value = np.nan if dtype.kind == "f" else 0
        self._shard = Shard(row_shape, dtype, chunk_rows, shard_rows, fill_value)
        self._quality: Shard | None = None
        self._waiting: list[PackedVideo] = []

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return int(np.prod(self._row_shape, dtype=np.int64)) * self._dtype.itemsize

    def add(self, name: str, rows: _Rows) -> None:
        """Copy a video into the shard; one that has no room begins the next, and one that is larger takes several.

        Raises:
            StoreError: it is damaged; nothing of it stays.
        """
        if self._shard.n_used and rows.n_rows > self._shard.room:
            self.flush()
        before = self._number, self._shard.n_used
        first_row, n_rows = before[0] * self._shard.n_rows + before[1], 0
        try:
            for values in rows.blocks():
                n_added = 0
                while n_added < len(values):
                    if not self._shard.room:
                        self._write_shard()
                    n = self._shard.add(values[n_added:])
                    if rows.quality is not None:
                        self._add_quality(rows.quality[n_rows : n_rows + n])
                    n_added, n_rows = n_added + n, n_rows + n
            if n_rows != rows.n_rows:
                raise StoreError(f"{name} in {self._group.path} has {n_rows} rows instead of {rows.n_rows}.")
        except StoreError:
            self._number = before[0]
            for shard in filter(None, (self._shard, self._quality)):
                shard.cut(before[1])
            raise
        self._waiting.append(rows.packed_at(name, first_row))

    def _add_quality(self, values: NDArray[np.float32]) -> None:
        """The quality of the rows that were just added."""
        if self._quality is None:
            self._quality = Shard((), np.dtype(np.float32), *self._grid, np.nan)
        self._quality.skip_to(self._shard.n_used - len(values))
        self._quality.add(values)

    def flush(self) -> None:
        """Write the shard, and let the videos in it count."""
        if not self._waiting:
            return
        if self._shard.n_used:
            self._write_shard()
        self._n_rows = max(self._n_rows, self._number * self._shard.n_rows)
        head = array_metadata(self._name, self._row_shape, self._dtype, self._grid, self._n_rows)
        self._group.store.mark_packed()
        self._group.packs.put_head(self._group.path, self._name, head)
        if self._quality is not None:
            name = f"{self._name}.{QUALITY}"
            head = array_metadata(name, (), np.dtype(np.float32), self._grid, self._n_rows)
            self._group.packs.put_head(self._group.path, name, head)
        self._group.commit(self._waiting, {self._name: self._number})
        self._waiting = []

    def _write_shard(self) -> None:
        path, packs = self._group.path, self._group.packs
        if self._quality is not None and self._quality.n_used:
            packs.put_shard(path, f"{self._name}.{QUALITY}", self._number, 1, self._quality.encode())
            self._quality.cut(0)
        packs.put_shard(path, self._name, self._number, 1 + len(self._row_shape), self._shard.encode())
        self._number += 1
        self._shard.cut(0)
