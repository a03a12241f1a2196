"""Packed videos: many of a group of the store in a few large files, with an index, see `abaw.store.pack_index`.

    features/<feature>/.packs/
      float16-768/            (rows, 768) all packed videos of this dtype and shape, in shards of about 1 GB
      float16-768.quality/    (rows,) float32, the quality of the crops, where it is known
      index/<part>/           attrs: n_videos, complete ...; columns: name, array, first_row, n_rows, attributes ...
    labels/<task>/.packs/     likewise

The attribute `parts` of the index names those that must be there: one that is lost is noticed.

A video counts once a part of the index has it. A part that is newer wins over older ones, and an array of the video
alone, which was written later, over all. Shards and parts are never changed; what counts no more is deleted.
"""

import re
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from shlex import quote
from threading import Lock
from typing import Any

from zarr.storage import FsspecStore, LocalStore

from abaw.core.errors import StoreError, first_line
from abaw.store.far_files import LargeFarArray
from abaw.store.local_keys import list_folder
from abaw.store.pack_index import IndexPart, PackedVideo, PackedVideos, PartHead, encode_part
from abaw.store.plain_arrays import Block, FarArray, PlainArray, PlainRows, find_plain_array
from abaw.store.schema import group_attrs, is_outside, report_unreachable
from abaw.store.tree import Tree
from abaw.store.writer import group_metadata
from abaw.store.zarr_keys import (
    METADATA,
    PACKS,
    FolderStore,
    delete_key,
    delete_nodes,
    names_in,
    read_key,
    read_keys,
    write_keys,
)

INDEX = "index"
PARTS = "parts"  # attribute of an index: names of its parts
PART_NAME = re.compile(r"[0-9]{8}-[0-9a-f]{8}")
MERGED_AT = 8  # parts of an index that are merged into one


class DamagedIndexError(StoreError):
    """A part of an index is damaged.

    Attributes:
        path: of the part in the store.
    """

    def __init__(self, sentence: str, path: str) -> None:
        super().__init__(sentence)
        self.path = path


class _LostPartError(DamagedIndexError):
    """A part that must be there is missing, or was merged into another since the index was listed."""


@dataclass
class _Known:
    """What is known of the packed videos of a group.

    Attributes:
        listed: names of the parts when the index was last read.
        packed: the videos.
        unpacked: names of what is in the group by itself; only kept for a store that is far away.
        arrays: that were opened, by name.
    """

    listed: tuple[str, ...] = ()
    packed: PackedVideos = field(default_factory=partial(PackedVideos, {}))
    unpacked: set[str] = field(default_factory=set)
    arrays: dict[str, PlainArray] = field(default_factory=dict)


class Packs:
    """The packed videos of a store, by the path of their group, such as `features/hog` or `labels/va`.

    A local index is looked at each time; one that is far away is read once, and again by `look`.
    """

    def __init__(self, tree: Tree, location: str) -> None:
        self._tree, self._location = tree, location
        self._known: dict[str, _Known] = {}
        self._lock = Lock()

    # reading

    def look(self, path: str) -> PackedVideos:
        """The packed videos of a group as they are now.

        Raises:
            DamagedIndexError: a part of the index is damaged.
        """
        with self._lock:
            known = self._known.get(path, _Known())
            listed = self._listed(path)
            if path not in self._known or listed != known.listed:
                known = self._known[path] = self._read_all(path, listed, known.packed)
            if known.packed and isinstance(self._tree.store, FsspecStore):
                known.unpacked = set(self._tree.names(path))
            return known.packed

    def find(self, path: str, video: str) -> PackedVideo | None:
        """A video of a group; None if it is not packed, or was written by itself since."""
        known = self._known.get(path)
        is_far = isinstance(self._tree.store, FsspecStore)
        packed = known.packed if is_far and known is not None else self.look(path)
        if video not in packed:
            return None
        may_be_alone = not is_far or video in self._known[path].unpacked
        return None if may_be_alone and self._tree.has_metadata(f"{path}/{video}") else packed[video]

    def find_now(self, path: str, video: str) -> PackedVideo | None:
        """The same, after looking at the index again."""
        self.look(path)
        return self.find(path, video)

    def wrote(self, path: str, video: str) -> None:
        """Note that a video has just been written by itself."""
        with self._lock:
            if path in self._known:
                self._known[path].unpacked.add(video)

    def rows(self, path: str, video: PackedVideo) -> PlainRows:
        """Where the rows of a video are.

        Raises:
            ValueError: the array is damaged, or another program wrote it otherwise.
        """
        stop = video.first_row + video.n_rows
        return self._array_with(path, video.array, stop).rows(video.first_row, stop)

    def span(self, path: str, array: str, start: int, stop: int) -> Block:
        """Rows of an array from one to before another, all in one shard; fewer where the array ends before.

        Raises:
            ValueError: as `rows`, or they are damaged.
        """
        found = self._array_with(path, array, start)
        return found.rows(start, min(stop, found.shape[0])).in_one_block()

    def _array_with(self, path: str, name: str, n_rows: int) -> PlainArray:
        """An array of a group that has at least so many rows."""
        arrays = self._known[path].arrays
        array = arrays.get(name)
        if array is None or n_rows > array.shape[0]:
            array = self.array(path, name)
            if array is None:
                raise ValueError("the array that it is packed in is damaged, or was not written by abaw")
            arrays[name] = array
        if n_rows > array.shape[0]:
            raise ValueError("the array that it is packed in is shorter than the index says")
        return array

    def array(self, path: str, name: str) -> PlainArray | None:
        """An array of a group; None if it is missing, or was not written by `abaw`."""
        array = find_plain_array(self._tree.store, f"{path}/{PACKS}/{name}")
        return LargeFarArray(**vars(array)) if isinstance(array, FarArray) else array

    def _listed(self, path: str) -> tuple[str, ...]:
        store = self._tree.store
        if isinstance(store, LocalStore):
            return tuple(sorted(list_folder(f"{store.root}/{path}/{PACKS}/{INDEX}")))
        with report_unreachable(f"{self._location}/{path}"):
            return tuple(names_in(store, f"{path}/{PACKS}/{INDEX}"))

    def _read_all(self, path: str, listed: tuple[str, ...], before: PackedVideos) -> _Known:
        """The index, which another process may be merging."""
        for is_last in (False, False, True):
            try:
                packed, begun = self._read(path, listed, before)
                # a part that another process has begun has its name already: it is looked at again
                return _Known(tuple(name for name in listed if name not in begun), packed)
            except _LostPartError:
                if is_last:
                    raise
                listed = self._listed(path)
        raise AssertionError

    def _read(self, path: str, listed: Sequence[str], before: PackedVideos) -> tuple[PackedVideos, set[str]]:
        """The packed videos, and names of parts that are not complete."""
        folder = f"{path}/{PACKS}/{INDEX}"
        with report_unreachable(f"{self._location}/{path}"):
            names = [name for name in listed if not name.startswith(METADATA) and not name.endswith(".partial")]
            *contents, own = read_keys(
                self._tree.store, [*(f"{folder}/{name}/{METADATA}" for name in names), f"{folder}/{METADATA}"]
            )
            whole = {name: content for name, content in zip(names, contents, strict=True) if content is not None}
            heads = {name: self._checked(path, name, PartHead.parse, content) for name, content in whole.items()}
            replaced = {name for head in heads.values() for name in head.replaces}
            for name in _parts_in(own):
                if name not in whole and name not in replaced:
                    raise self._damaged(path, name, FileNotFoundError("it is missing"), _LostPartError)
            heads, begun = {name: head for name, head in heads.items() if name not in replaced}, {*names} - {*whole}
            if list(heads) == list(before.parts):
                return before, begun
            new = [name for name in heads if name not in before.parts]
            keys = [f"{folder}/{name}/{key}" for name in new for key in heads[name].files()]
            contents_of = dict(zip(keys, read_keys(self._tree.store, keys), strict=True))
        parts = dict(before.parts)
        for name in new:
            head = heads[name]
            contents = [contents_of[f"{folder}/{name}/{key}"] for key in head.files()]
            parts[name] = self._checked(
                path, name, partial(IndexPart, head, partial(self._damaged, path, name)), contents
            )
        return PackedVideos({name: parts[name] for name in heads}), begun

    def _checked(self, path: str, part: str, parse: Callable[[Any], Any], content: Any) -> Any:
        """What a part of an index holds; turns errors in it into a DamagedIndexError."""
        try:
            return parse(content)
        except Exception as error:  # foreign files may contain anything
            if is_outside(error):
                raise
            raise self._damaged(path, part, error) from error

    def _damaged(
        self, path: str, part: str, error: Exception, kind: type[DamagedIndexError] = DamagedIndexError
    ) -> DamagedIndexError:
        part_path = f"{path}/{PACKS}/{INDEX}/{part}"
        return kind(
            f"The index of packed videos {self._location}/{part_path} is damaged ({first_line(error)}). "
            "Restore it if there is a copy, or run "
            f"`abaw store repair {quote(self._location)}` and the same `abaw extract` again.",
            part_path,
        )

    # writing

    def put_shard(self, path: str, array: str, number: int, n_axes: int, content: memoryview) -> None:
        """Write a shard of an array of so many axes."""
        coordinates = "/".join(["c", str(number), *("0" * (n_axes - 1))])
        write_keys(self._tree.store, f"{path}/{PACKS}/{array}", {coordinates: content})

    def put_head(self, path: str, array: str, metadata: bytes) -> None:
        """Write the `zarr.json` of an array, whose shape grows with its shards."""
        write_keys(self._tree.store, f"{path}/{PACKS}/{array}", {METADATA: metadata})

    def put_part(
        self,
        path: str,
        videos: Sequence[PackedVideo],
        n_shards: Mapping[str, int],
        replaces: Sequence[str] = (),
        removes: Sequence[str] = (),
    ) -> None:
        """Write a part of the index, which then counts; see `encode_part`."""
        store, folder = self._tree.store, f"{path}/{PACKS}"
        for group in (folder, f"{folder}/{INDEX}"):
            if read_key(store, f"{group}/{METADATA}") is None:
                write_keys(store, group, {METADATA: group_metadata({})})
        files, head = encode_part(videos, n_shards, replaces, removes)
        listed = [name for name in self._listed(path) if name.partition("-")[0].isdigit()]
        heads = read_keys(store, [f"{folder}/{INDEX}/{name}/{METADATA}" for name in listed])
        # a part that a killed process began does not count
        numbers = [int(name.partition("-")[0]) for name, its in zip(listed, heads, strict=True) if its is not None]
        # two that remove videos at once, of different parts of an extraction, have different names
        name = f"{max(numbers, default=0) + 1:08}-{zlib.crc32(head):08x}"
        write_keys(store, f"{folder}/{INDEX}/{name}", files, last={METADATA: head}, clear=True)
        self._name_parts(path, list(self.look(path).parts))

    def _name_parts(self, path: str, names: Sequence[str]) -> None:
        """Note which parts must be there."""
        folder = f"{path}/{PACKS}/{INDEX}"
        if _parts_in(read_key(self._tree.store, f"{folder}/{METADATA}")) != list(names):
            write_keys(self._tree.store, folder, {METADATA: group_metadata({PARTS: list(names)})})

    def forget(self, path: str, names: Collection[str]) -> None:
        """Let parts of an index, which are damaged or lost, count no more."""
        named = _parts_in(read_key(self._tree.store, f"{path}/{PACKS}/{INDEX}/{METADATA}"))
        self._name_parts(path, [name for name in named if name not in names])

    def lost_index(self, path: str) -> str:
        """A sentence if there are arrays of packed videos, but no index, nor videos that a killed process was packing; else empty."""
        folder = f"{path}/{PACKS}"
        has_index = read_key(self._tree.store, f"{folder}/{INDEX}/{METADATA}") is not None
        if has_index or not self.arrays(path) or self._tree.names(path) or self.look(path):
            return ""
        return (
            f"The index of the packed videos in {self._location}/{folder} is missing. Restore {INDEX}/ in it if there is a copy, "
            f"or delete {self._location}/{folder} and run the same `abaw extract` again."
        )

    def remove(self, path: str, names: Collection[str]) -> None:
        """Let videos of a group count no more, as far as they are packed."""
        packed = self.look(path)
        if removed := sorted(name for name in names if name in packed):
            self.put_part(path, (), {}, removes=removed)

    def merge(self, path: str) -> None:
        """Merge the newest parts of the index once there are many; each video is written again few times."""
        packed = self.look(path)
        sizes = {name: part.head.n_videos for name, part in packed.parts.items()}
        names, merged = list(sizes), list[str]()
        while names and (not merged or sizes[names[-1]] <= 2 * sum(sizes[name] for name in merged)):
            merged.insert(0, names.pop())
        if len(merged) < MERGED_AT:
            return
        videos = [packed[name] for part in merged for name in packed.in_part(part)]
        removes = {name for part in merged for name in packed.parts[part].head.removes} if names else set()
        arrays = {array for part in merged for array in packed.parts[part].head.n_shards}
        n_shards = {array: packed.n_shards(array) for array in sorted(arrays)}
        removes -= {video.name for video in videos}
        self.put_part(path, videos, n_shards, replaces=merged, removes=sorted(removes))
        self.sweep_index(path)

    def sweep_index(self, path: str) -> None:
        """Delete parts that were replaced, or that a killed process began."""
        packed = self.look(path)
        self._name_parts(path, list(packed.parts))
        for name in set(self._listed(path)) - packed.parts.keys() - {METADATA}:
            delete_nodes(self._tree.store, [f"{path}/{PACKS}/{INDEX}/{name}"])

    def shards(self, path: str, array: str) -> list[int]:
        """Numbers of the shards of an array that are there."""
        with report_unreachable(f"{self._location}/{path}"):
            names = names_in(self._tree.store, f"{path}/{PACKS}/{array}/c")
        return sorted(int(name) for name in names if name.isdigit())

    def arrays(self, path: str) -> list[str]:
        """Names of the arrays of a group."""
        return [name for name in self._tree.names(f"{path}/{PACKS}") if name != INDEX]

    def sweep(self, path: str) -> None:
        """Delete what killed processes left among the packs of a group, while nobody else writes there."""
        if isinstance(self._tree.store, FolderStore):
            self._tree.store.sweep_below(f"{path}/{PACKS}")
        self.sweep_index(path)

    def drop_shard(self, path: str, array: str, number: int, n_axes: int) -> None:
        """Delete a shard of an array of so many axes."""
        key = f"{path}/{PACKS}/{array}/c/{number}"
        if n_axes == 1:
            delete_key(self._tree.store, key)
        else:
            delete_nodes(self._tree.store, [key])


def _parts_in(metadata: bytes | None) -> list[str]:
    """Names of the parts that must be there, from the `zarr.json` of an index; none in stores of older versions."""
    names = group_attrs(metadata or b"").get(PARTS)
    return [name for name in names if PART_NAME.fullmatch(str(name))] if isinstance(names, list) else []
