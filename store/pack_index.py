"""The index of packed videos: columns over many videos, so that a million are listed in seconds.

A part of an index is one Zarr group with an array for each column; it is written once and never changed. Numbers are
int64 or float64. Other columns are the bytes of a JSON list, which has the value of each video, or, if few differ, each
value once: `<column>.code` (videos,) int32 then has the position of each video's value, -1 where it has none.
"""

import json
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from shlex import quote
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from abaw.core.errors import StoreError
from abaw.core.names import MAX_FRAMES
from abaw.store.schema import has_checksum, with_attrs_checksum
from abaw.store.writer import CHECKSUM_BYTES, group_metadata, with_checksum
from abaw.store.zarr_keys import METADATA, array_template, encode_metadata

NAME, ARRAY, FIRST, ROWS = "name", "array", "first_row", "n_rows"
BITS, BITS_END = "present_bits", "present_end"
ATTRS = "attrs"  # columns of attributes are in this group of a part
CODE = ".code"
MADE_WHEN_READ = ("complete", "checksum")  # attributes that packed videos are stored without
OTHER = "other"  # of attributes: those whose names are no names of columns
INT, FLOAT, TEXT, CODED = "int", "float", "text", "coded"  # kinds of columns
DTYPES = {INT: "int64", FLOAT: "float64", TEXT: "uint8", CODED: "uint8"}
MAX_DISTINCT = 1 / 4  # of the values of a column that are stored once each
ARRAY_NAME = re.compile(r"[a-z]+[0-9]*(-[0-9x]+)?")
COLUMN = re.compile(r"[A-Za-z0-9_]{1,64}")
UNSAFE = ("/", "\\", "\0", "\n.", "\n__", "\n\n")  # in names of videos, each after a line break


@dataclass(frozen=True)
class PackedVideo:
    """A video of a feature, or labels of a video, among others in a long array.

    Attributes:
        name: of the video.
        array: name of the array.
        first_row, n_rows: its rows.
        attrs: its attributes, without `complete` and `checksum`.
        present: (rows,) bool; None if all are, and for labels.
    """

    name: str
    array: str
    first_row: int
    n_rows: int
    attrs: Mapping[str, Any]
    present: NDArray[np.bool_] | None = None

    @property
    def place(self) -> tuple[str, int]:
        """Where its rows begin."""
        return self.array, self.first_row

    def beside(self, column: str) -> "PackedVideo":
        """The same rows of the array that has a number for each row, see `abaw.store.packs`."""
        return replace(self, array=f"{self.array}.{column}")

    def is_same(self, other: "PackedVideo") -> bool:
        """True if all but the values is the same."""
        present, its_present = (np.ones(0) if one.present is None else one.present for one in (self, other))
        is_same = (self.name, self.n_rows, dict(self.attrs)) == (other.name, other.n_rows, dict(other.attrs))
        return is_same and self.place == other.place and np.array_equal(present, its_present)


@dataclass(frozen=True)
class PartHead:
    """What a part of an index says about itself and older ones.

    Attributes:
        n_videos: in it.
        n_shards: of each array: those that were ever written.
        replaces: names of older parts that count no more.
        removes: names of videos in older parts that count no more.
        columns: kind of each column.
    """

    n_videos: int
    n_shards: Mapping[str, int]
    replaces: Sequence[str] = ()
    removes: Sequence[str] = ()
    columns: Mapping[str, str] | None = None

    def encode(self) -> bytes:
        """The `zarr.json` of the part."""
        attrs = {
            "n_videos": self.n_videos,
            "n_shards": dict(self.n_shards),
            "replaces": list(self.replaces),
            "removes": list(self.removes),
            "columns": dict(self.columns or {}),
            "complete": True,
        }
        return group_metadata(with_attrs_checksum(attrs))

    @classmethod
    def parse(cls, content: bytes) -> "PartHead":
        """Raises errors of many types if it is damaged."""
        attrs = json.loads(content)["attributes"]
        if not has_checksum(attrs) or attrs["complete"] is not True:
            raise ValueError("its attributes have changed since they were written")
        n_videos, columns = int(attrs["n_videos"]), dict(attrs["columns"])
        if n_videos < 0 or not all(kind in DTYPES for kind in columns.values()):
            raise ValueError("its attributes are invalid")
        if not all(COLUMN.fullmatch(name.removeprefix(f"{ATTRS}/")) for name in columns):
            raise ValueError("a column has an invalid name")
        n_shards = {str(name): int(n) for name, n in attrs["n_shards"].items()}
        return cls(n_videos, n_shards, list(attrs["replaces"]), list(attrs["removes"]), columns)

    def files(self) -> list[str]:
        """Keys of the columns' contents in the part."""
        columns = self.columns or {}
        return [
            *(f"{name}/c/0" for name in columns),
            *(f"{name}{CODE}/c/0" for name, kind in columns.items() if kind == CODED),
        ]


class IndexPart:
    """The columns of one part.

    Args:
        head: of the part.
        damaged: makes the error to raise where a column that is read later has impossible values.
        contents: of the keys of `PartHead.files`, checksums included.

    Raises:
        ValueError: they are damaged.
    """

    def __init__(
        self, head: PartHead, damaged: Callable[[Exception], StoreError], contents: Sequence[bytes | None]
    ) -> None:
        self.head, self._damaged = head, damaged
        self._contents = {
            key: _without_checksum(key, content) for key, content in zip(head.files(), contents, strict=True)
        }
        self._columns: dict[str, list[Any]] = {}
        self.names: list[str] = self._column(NAME) if head.n_videos else []
        self.arrays: list[str] = self._column(ARRAY) if head.n_videos else []
        self.first = self._numbers(FIRST)
        self.n_rows = self._numbers(ROWS)
        self._check()

    def _check(self) -> None:
        names = "\n".join(["", *self.names, ""])  # searched at once: there may be a million
        if names.count("\n") != len(self.names) + 1 or any(part in names for part in UNSAFE):
            raise ValueError("a name of a video is invalid")
        if not all(ARRAY_NAME.fullmatch(name) for name in set(self.arrays)):
            raise ValueError("a name of an array is invalid")
        if (self.first < 0).any() or (self.n_rows < 0).any() or (self.n_rows > MAX_FRAMES).any():
            raise ValueError("its numbers of rows are impossible")
        if len(self._present_ends) != self.head.n_videos:
            raise ValueError("its columns differ in their lengths")

    def video(self, number: int) -> PackedVideo:
        """Video number `number` of the part."""
        first, n_rows = int(self.first[number]), int(self.n_rows[number])
        return PackedVideo(
            self.names[number], self.arrays[number], first, n_rows, self.attrs(number), self._present(number)
        )

    def attrs(self, number: int) -> dict[str, Any]:
        """Attributes of a video."""
        try:
            attrs = {key: values[number] for key, values in self._attr_columns if values[number] is not _ABSENT}
            return {**attrs, **attrs.pop(OTHER)} if OTHER in attrs else attrs
        except Exception as error:  # foreign files may contain anything
            raise self._damaged(error) from error

    @cached_property
    def _attr_columns(self) -> list[tuple[str, list[Any]]]:
        columns = (name for name in self.head.columns or {} if name.startswith(f"{ATTRS}/"))
        return [(name.removeprefix(f"{ATTRS}/"), self._column(name)) for name in columns]

    @cached_property
    def _present_ends(self) -> NDArray[np.int64]:
        has_bits = BITS_END in (self.head.columns or {})
        return self._numbers(BITS_END) if has_bits else np.zeros(self.head.n_videos, dtype=np.int64)

    def _present(self, number: int) -> NDArray[np.bool_] | None:
        end, n_rows = int(self._present_ends[number]), int(self.n_rows[number])
        start = int(self._present_ends[number - 1]) if number else 0
        if start == end:
            return None
        bits = np.frombuffer(self._contents.get(f"{BITS}/c/0", b""), dtype=np.uint8)[start:end]
        if len(bits) != -(-n_rows // 8):
            raise self._damaged(ValueError("the frames of a video that are present are damaged"))
        return np.unpackbits(bits, count=n_rows).astype(np.bool_)

    def _numbers(self, name: str) -> NDArray:
        if not self.head.n_videos:
            return np.zeros(0, dtype=np.int64)
        return np.frombuffer(self._contents[f"{name}/c/0"], dtype=np.dtype(DTYPES[(self.head.columns or {})[name]]))

    def _column(self, name: str) -> list[Any]:
        """The value of each video; `_ABSENT` where it has none."""
        kind = (self.head.columns or {})[name]
        values = (
            self._numbers(name).tolist() if kind in (INT, FLOAT) else json.loads(bytes(self._contents[f"{name}/c/0"]))
        )
        if kind == CODED:
            codes = np.frombuffer(self._contents[f"{name}{CODE}/c/0"], dtype=np.int32).tolist()
            known = [*values, _ABSENT]
            values = [known[code] for code in codes]
        if len(values) != self.head.n_videos:
            raise ValueError("its columns differ in their lengths")
        return values


_ABSENT = object()


def _without_checksum(key: str, content: bytes | None) -> memoryview:
    """The content of a file that a CRC-32C follows, compared with it."""
    if content is None or len(content) < CHECKSUM_BYTES:
        raise ValueError(f"its file {key} is missing or cut off")
    values = memoryview(content)[:-CHECKSUM_BYTES]
    checksum = google_crc32c.value(np.frombuffer(values, dtype=np.uint8))
    if int(checksum).to_bytes(CHECKSUM_BYTES, "little") != content[-CHECKSUM_BYTES:]:
        raise ValueError(f"its file {key} does not match its checksum")
    return values


def encode_part(
    videos: Sequence[PackedVideo],
    n_shards: Mapping[str, int],
    replaces: Sequence[str] = (),
    removes: Sequence[str] = (),
) -> tuple[dict[str, bytes], bytes]:
    """The files of a part by their keys, and its `zarr.json`, which is written last; see `PartHead`."""
    columns: dict[str, str] = {}
    files: dict[str, bytes] = {}

    def put(name: str, values: Sequence[Any]) -> None:
        kind, arrays = _encode_column(values)
        columns[name] = kind
        for suffix, array in arrays.items():
            files.update(_array_files(f"{name}{suffix}", array, "byte" if array.dtype == np.uint8 else "video"))

    if videos:
        for name, field in ((NAME, "name"), (ARRAY, "array"), (FIRST, "first_row"), (ROWS, "n_rows")):
            put(name, [getattr(video, field) for video in videos])
        _put_present(videos, columns, files)
        for name, values in _attr_columns(videos).items():
            put(f"{ATTRS}/{name}", values)
        files[f"{ATTRS}/{METADATA}"] = group_metadata({})
    return files, PartHead(len(videos), n_shards, replaces, removes, columns).encode()


def _attr_columns(videos: Sequence[PackedVideo]) -> dict[str, list[Any]]:
    keys = dict.fromkeys(key for video in videos for key in video.attrs)
    plain = [key for key in keys if COLUMN.fullmatch(key) and key != OTHER]
    columns = {key: [video.attrs.get(key, _ABSENT) for video in videos] for key in plain}
    if len(plain) < len(keys):
        odd = keys.keys() - set(plain)
        columns[OTHER] = [{key: value for key, value in video.attrs.items() if key in odd} for video in videos]
    return columns


def _encode_column(values: Sequence[Any]) -> tuple[str, dict[str, NDArray]]:
    """The kind of a column, and its arrays by what follows its name."""
    types = set(map(type, values))
    if types == {int} and all(-(2**63) <= value < 2**63 for value in values):
        return INT, {"": np.array(values, dtype=np.int64)}
    if types == {float}:
        return FLOAT, {"": np.array(values, dtype=np.float64)}
    texts = [None if value is _ABSENT else json.dumps(value) for value in values]
    known = {text: number for number, text in enumerate(dict.fromkeys(text for text in texts if text is not None))}
    if None in texts or len(known) <= MAX_DISTINCT * len(texts):
        codes = np.array([-1 if text is None else known[text] for text in texts], dtype=np.int32)
        return CODED, {"": _as_bytes(known), CODE: codes}
    return TEXT, {"": _as_bytes(text for text in texts if text is not None)}


def _as_bytes(texts: Iterable[str]) -> NDArray[np.uint8]:
    return np.frombuffer(f"[{','.join(texts)}]".encode(), dtype=np.uint8)


def _put_present(videos: Sequence[PackedVideo], columns: dict[str, str], files: dict[str, bytes]) -> None:
    parts = [b"" if video.present is None else np.packbits(video.present).tobytes() for video in videos]
    bits = b"".join(parts)
    if bits:
        columns |= {BITS: TEXT, BITS_END: INT}
        files.update(_array_files(BITS, np.frombuffer(bits, dtype=np.uint8), "byte"))
        files.update(_array_files(BITS_END, np.cumsum([len(part) for part in parts], dtype=np.int64), "video"))


def _array_files(name: str, values: NDArray, dimension: str) -> dict[str, bytes]:
    """The files of an array of one chunk."""
    # columns of bytes differ in their lengths, and xarray refuses two dimensions of one name
    axis = f"{dimension}_{name.rpartition('/')[2]}" if dimension == "byte" else dimension
    metadata = dict(array_template((1,), values.dtype.name, (1,), None, None, ("video",))) | {
        "dimension_names": (axis,),
        "shape": values.shape,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": values.shape}},
    }
    return {f"{name}/{METADATA}": encode_metadata(metadata), f"{name}/c/0": with_checksum(values.tobytes())}


class PackedVideos(Mapping[str, PackedVideo]):
    """The packed videos of a group, by name in sorted order, as some parts of its index say.

    Args:
        parts: by name, from the oldest to the newest, without those that were replaced.
    """

    def __init__(self, parts: Mapping[str, IndexPart]) -> None:
        self.parts = dict(parts)
        self._numbers: dict[str, int] = {}  # of each video, counted over the parts
        self._starts: list[int] = []
        n_videos = 0
        for part in self.parts.values():
            for name in part.head.removes:
                self._numbers.pop(name, None)
            self._starts.append(n_videos)
            self._numbers.update(zip(part.names, range(n_videos, n_videos + len(part.names)), strict=True))
            n_videos += len(part.names)
        self._listed = list(self.parts.values())

    @cached_property
    def _sorted(self) -> list[str]:
        return sorted(self._numbers)

    def __iter__(self) -> Iterator[str]:
        return iter(self._sorted)

    def __len__(self) -> int:
        return len(self._numbers)

    def __contains__(self, name: object) -> bool:
        return name in self._numbers

    def __getitem__(self, name: str) -> PackedVideo:
        part, number = self._at(self._numbers[name])
        return part.video(number)

    def rows_of(self, name: str) -> tuple[str, int, int]:
        """The array that a video is in, its first row, and the one after its last."""
        part, number = self._at(self._numbers[name])
        first = int(part.first[number])
        return part.arrays[number], first, first + int(part.n_rows[number])

    def attrs(self, name: str) -> dict[str, Any]:
        """Attributes of a video, as they were before it was packed."""
        part, number = self._at(self._numbers[name])
        return {**part.attrs(number), "complete": True}

    def n_shards(self, array: str) -> int:
        """Shards of an array that were ever written, as far as the index says."""
        return max((part.head.n_shards.get(array, 0) for part in self._listed), default=0)

    def spans(self, array: str) -> tuple[list[str], NDArray[np.int64], NDArray[np.int64]]:
        """Videos in an array: their names, first rows, and the rows after their last ones."""
        names, first, stop = list[str](), list[int](), list[int]()
        for start, part in zip(self._starts, self._listed, strict=True):
            columns = zip(part.names, part.arrays, part.first.tolist(), part.n_rows.tolist(), strict=True)
            for number, (name, its_array, row, n_rows) in enumerate(columns, start):
                if its_array == array and self._numbers.get(name) == number:
                    names.append(name)
                    first.append(row)
                    stop.append(row + n_rows)
        return names, np.array(first, dtype=np.int64), np.array(stop, dtype=np.int64)

    def in_part(self, name: str) -> list[str]:
        """Videos that count and are in one part."""
        start = self._starts[list(self.parts).index(name)]
        names = self.parts[name].names
        return [video for number, video in enumerate(names, start) if self._numbers.get(video) == number]

    def _at(self, number: int) -> tuple[IndexPart, int]:
        place = bisect_right(self._starts, number) - 1
        return self._listed[place], number - self._starts[place]


class StoredAttrs(Mapping[str, dict[str, Any]]):
    """Attributes of the videos of a feature, by name in sorted order; those of packed videos are made when asked for.

    Args:
        plain: attributes of videos that are not packed, or were written again since.
        packed: the packed ones.
        hidden: names of packed videos that do not count.
        is_valid: whether attributes are those of a complete video.
        location: of the store.
    """

    def __init__(
        self,
        plain: Mapping[str, dict[str, Any]],
        packed: PackedVideos,
        hidden: Iterable[str],
        is_valid: Callable[[Mapping[str, Any]], bool],
        location: str,
    ) -> None:
        self._location = location
        self._plain, self._packed, self._hidden, self._is_valid = plain, packed, set(hidden), is_valid
        names = list(packed) if not self._hidden else [name for name in packed if name not in self._hidden]
        self._names = names if not plain else sorted({*names, *plain})

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._plain or (name in self._packed and name not in self._hidden)

    def __getitem__(self, name: str) -> dict[str, Any]:
        if name in self._plain:
            return self._plain[name]
        if name in self._hidden:
            raise KeyError(name)
        attrs = self._packed.attrs(name)
        if not self._is_valid(attrs):
            raise StoreError(
                f"Attributes of the packed video {name!r} in {self._location} are invalid. Run `abaw store repair "
                f"{quote(self._location)}` and the same `abaw extract` again."
            )
        return attrs
