"""FeatureStore: per-frame features and labels in one Zarr v3 group, the seam between the two stages.

    store.zarr                                attrs: format
      features/<feature>/                     attrs: spec, weights_sha256, fingerprint, record, abaw
        <video>/values   (frames, *shape)     float16, or float32 where values need it; crc32c per chunk of 256 frames
                present  (frames,) bool       the frame had a crop, or sound
                quality  (frames,) float32    of the crop, in [0, 1]; only where the attribute quality is true
                attrs: fps, n_frames, n_present, dtype, source, content, precision, complete (written last), checksum;
                where true, length_from_crops (from no video file), sampled (rows spread over a clip)
      labels/<task>/<video>  (rows, columns)  as published, invalid values kept; attrs: split, sha256, complete, checksum;
                where frames are labelled twice, doubles: frame numbers of the extra rows at the end; where it is known,
                person: who is in the video
      features/<feature>/.packs, labels/<task>/.packs   many videos in a few files, see `abaw.store.packs`
      .notes/<note>                           attrs: text; which processes are writing

Row i is frame i+1 of the video, for every feature and for the labels. A video is written by one writer, in whole
shards, and counts only once its attributes have `complete`, so that nothing left by a killed writer is
ever read. Values are not compressed: features do not compress. Dimensions have names, as xarray wants them; arrays of
earlier versions have none.
"""

import atexit
import json
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.errors import ContainsGroupError

from abaw import __version__
from abaw.core.claim_files import check_claims
from abaw.core.doubles import Doubles
from abaw.core.errors import AbawError, StoreError, UnreachableError, first_line
from abaw.core.files import Place, is_url
from abaw.core.names import check_name
from abaw.core.people import is_person
from abaw.core.read_ahead import map_ahead
from abaw.core.records import Record, describe_other
from abaw.store.feature_names import MissingStoreError, no_store, unknown_feature
from abaw.store.label_arrays import VideoLabels, decode_labels, encode_labels
from abaw.store.location import open_existing, open_or_make
from abaw.store.notes import Notes
from abaw.store.old_records import record_in
from abaw.store.pack_index import MADE_WHEN_READ, PackedVideo, PackedVideos, StoredAttrs
from abaw.store.packed_rows import RowsInTurn
from abaw.store.packs import INDEX, Packs
from abaw.store.plain_arrays import Block, FarArray, PlainRows, find_plain_array
from abaw.store.schema import (
    MISPLACED,
    as_numpy,
    check_no_shard_is_missing,
    check_shapes,
    is_feature,
    is_outside,
    is_video,
    report_unreachable,
)
from abaw.store.shards import name_of_array
from abaw.store.tree import Tree, attrs_at, put_whole
from abaw.store.writer import QUALITY, VideoWriter
from abaw.store.zarr_keys import PACKS, read_ranges
from abaw.store.zarr_threads import end_zarr_thread

if TYPE_CHECKING:
    from abaw.store.dask_arrays import DaskFeature

atexit.register(end_zarr_thread)  # called before what zarr has registered

FORMAT = 1
PACKED_FORMAT = 2  # of a store with packed videos, which earlier versions would not see
Result = TypeVar("Result")
DASK_CHUNK_BYTES = 2**27
READERS_FAR_AWAY = 8  # each holds a video: more would fill the memory


@dataclass(frozen=True)
class VideoFeature:
    """One feature of one video.

    Attributes:
        values: (frames, *shape) float16 or float32; zero where not present.
        present: (frames,) bool.
        fps: frames a second of the video.
    """

    values: NDArray
    present: NDArray[np.bool_]
    fps: float


@dataclass(frozen=True)
class StoredVideo:
    """One feature of one video whose values are still in their files, or on object storage.

    Attributes:
        rows: where the values are, alone in files or among those of other videos.
        present: (frames,) bool.
        fps: frames a second of the video.
        reading: context for whatever reads the values; it turns errors into a StoreError that names the video.
    """

    rows: PlainRows
    present: NDArray[np.bool_]
    fps: float
    reading: Callable[[], AbstractContextManager[None]]

    @property
    def is_far(self) -> bool:
        """True if they are on object storage."""
        return isinstance(self.rows.array, FarArray)

    @property
    def n_blocks(self) -> int:
        """Parts that they are read in."""
        return self.rows.n_blocks

    def block(self, number: int) -> Block:
        """The values in one of these parts, checksums verified.

        Raises:
            StoreError: they are damaged.
        """
        with self.reading():
            block = self.rows.block(number)
            check_no_shard_is_missing(block.values)
            return block


def _is_begun(root: zarr.Group) -> bool:
    """True if a process ended before it had made a store of this group."""
    return "format" not in root.attrs and not set(root.attrs) and not set(root) - {"features", "labels"}


def _labels_in(content: NDArray, attrs: Mapping[str, Any]) -> VideoLabels:
    """Labels from what is stored of them.

    Raises:
        ValueError: they are damaged.
    """
    split, person = str(attrs.get("split")), str(attrs.get("person", ""))
    if not is_person(person):
        raise ValueError("they name no person that could be one")
    rows, doubles = decode_labels(content, attrs)
    return VideoLabels(split, rows, doubles, person)


def _attrs_of(packed: PackedVideo) -> dict[str, Any]:
    """Attributes of a packed video."""
    return {**packed.attrs, "complete": True}


class FeatureStore:
    """Features and labels by video. Open with `FeatureStore.open` (read) or `FeatureStore.create` (read and write)."""

    def __init__(self, root: zarr.Group, path: str) -> None:
        self.path = path
        self._tree = Tree(root, path)
        self.packs = Packs(self._tree, path)  # what is packed, see `abaw.store.packs`
        self._label_groups: set[str] = set()  # known to exist
        self._shapes: dict[str, tuple[int, ...]] = {}  # of a frame, by feature

    @classmethod
    def open(cls, path: Place) -> "FeatureStore":
        """Open an existing store for reading.

        Raises:
            StoreError: the path does not exist, or is not a store of this format.
        """
        root = open_existing(path)
        if _is_begun(root):
            raise no_store(path)
        return cls(root, str(path))._checked()

    @classmethod
    def open_if_there(cls, path: Place) -> "FeatureStore | None":
        """Open a store for reading; None if there is none."""
        try:
            return cls.open(path)
        except MissingStoreError:
            return None

    @classmethod
    def create(cls, path: Place) -> "FeatureStore":
        """Open a store for writing; create it if the path is free."""
        root = open_or_make(path)
        if "format" not in root.attrs and not _is_begun(root):
            raise StoreError(f"{path} is a Zarr group but not a feature store. Name another place.")
        if "format" not in root.attrs:
            for name in ("features", "labels"):
                with suppress(ContainsGroupError):  # another process has just created it
                    root.require_group(name)
            root.update_attributes({"format": FORMAT})
        return cls(root, str(path))._checked()

    def _checked(self) -> "FeatureStore":
        store_format = self._tree.root.attrs.get("format")
        if store_format not in (FORMAT, PACKED_FORMAT):
            raise StoreError(
                f"{self.path} has store format {store_format!r}; this version of abaw reads formats {FORMAT} and {PACKED_FORMAT}. "
                "Extract again into a new store, or use the version of abaw that wrote it."
            )
        return self

    def __reduce__(self) -> tuple[Callable[[str], "FeatureStore"], tuple[str]]:
        """Another process opens the store once, for reading."""
        return _opened, (self.path,)

    def __repr__(self) -> str:
        """Its path, the videos and frames of each feature, and the tasks that have labels."""
        try:
            parts = [self._describe_feature(feature) for feature in self.features()] or ["no features"]
            parts.append(f"labels of {', '.join(self.tasks())}" if self.tasks() else "no labels")
        except AbawError as error:
            parts = [first_line(error)]
        return f"FeatureStore({self.path!r}; {'; '.join(parts)})"

    def _describe_feature(self, feature: str) -> str:
        videos = self.videos(feature).values()
        return f"{feature}: {len(videos):,} videos, {sum(attrs['n_frames'] for attrs in videos):,} frames"

    # features

    def features(self) -> list[str]:
        """Names of the features, sorted."""
        return [name for name, attrs in self._tree.attrs_in("features") if is_feature(attrs)]

    def damaged_features(self) -> list[str]:
        """Names of the features with invalid attributes; they are never read."""
        return [name for name, attrs in self._tree.attrs_in("features") if not is_feature(attrs)]

    def feature_attrs(self, feature: str) -> dict[str, Any]:
        """`spec`, `weights_sha256`, `fingerprint`, `record` and the writing version of a feature.

        Raises:
            UsageError: there is no such feature; the message lists the existing ones.
        """
        attrs = self._tree.attrs_of("features", feature)
        if not is_feature(attrs):
            raise unknown_feature(feature, self.features(), self.path)
        return attrs

    def feature_record(self, feature: str) -> Record | None:
        """How a feature was made, see `abaw.core.records`; None if it is missing or this is unknown."""
        attrs = attrs_at(self._tree.store, [f"features/{feature}"])[0]
        return record_in(attrs, lambda: self.videos(feature).values())

    def add_feature(
        self,
        feature: str,
        spec: dict[str, Any],
        weights_sha256: str | None,
        fingerprint: str,
        record: Record | None = None,
    ) -> None:
        """Register a feature, or check that the existing one was made the same way; its attributes are kept.

        Raises:
            StoreError: the existing feature was made differently.
        """
        check_name(feature, "feature")
        group = self._tree.require("features", feature)
        fingerprint_in_store = group.attrs.get("fingerprint")
        if fingerprint_in_store is None:
            attrs = {"spec": spec, "weights_sha256": weights_sha256, "fingerprint": fingerprint}
            group.update_attributes({**attrs, **({"record": record} if record else {}), "abaw": __version__})
        elif fingerprint_in_store != fingerprint:
            difference = describe_other(self.feature_record(feature), record, str(fingerprint_in_store), fingerprint)
            if difference:
                raise StoreError(
                    f"Feature {feature!r} in {self.path} was made differently: {difference}. Keep both by naming this one, as in "
                    f"`--backbone NEWNAME=...`, or delete {self.path}/features/{feature} to replace it."
                )

    def videos(self, feature: str) -> Mapping[str, dict[str, Any]]:
        """Attributes of each complete video of a feature, by name in sorted order."""
        return self.complete_and_incomplete(feature)[0]

    def complete_and_incomplete(self, feature: str) -> tuple[Mapping[str, dict[str, Any]], list[str]]:
        """What `videos` and `incomplete` return, in one reading."""
        path = f"features/{feature}"
        stored = dict(self._tree.attrs_in(path))  # before packed ones are looked for: packing deletes videos last
        complete = {name: attrs for name, attrs in stored.items() if is_video(attrs)}
        packed = self.packs.look(path)
        damaged = self._damaged(path, stored.keys() - complete.keys(), packed)
        return StoredAttrs(complete, packed, damaged, is_video, self.path) if packed else complete, damaged

    def _damaged(self, path: str, names: Iterable[str], packed: PackedVideos) -> list[str]:
        """Those of some incomplete videos that count: of a packed one a killed process may have left files behind."""
        return sorted(name for name in names if name not in packed or self._tree.has_metadata(f"{path}/{name}"))

    def video_attrs(self, feature: str, video: str) -> dict[str, Any]:
        """Attributes of a video of a feature; empty if it is not complete."""
        with report_unreachable(f"{self.path}/features/{feature}/{video}"):
            packed = self.packs.find(f"features/{feature}", video)
            path = f"features/{feature}/{video}"
            attrs = attrs_at(self._tree.store, [path])[0] if packed is None else _attrs_of(packed)
        return attrs if is_video(attrs) else {}

    def incomplete(self, feature: str) -> list[str]:
        """Videos of a feature whose writing was cut off, or whose attributes are damaged.

        They are never read; the next extract writes them again.
        """
        return self.complete_and_incomplete(feature)[1]

    def read(self, feature: str, video: str, into: NDArray | None = None) -> VideoFeature:
        """Read one feature of one video, checksums verified.

        Args:
            into: (frames, *shape), where the values go; float32 holds those of every video.

        Raises:
            StoreError: the video is missing or damaged; an UnreachableError if the disk or the network is at fault.
        """
        return self._packed_or_not(f"features/{feature}", video, partial(self._read, feature, video, into))

    def _read(self, feature: str, video: str, into: NDArray | None, packed: PackedVideo | None) -> VideoFeature:
        key = f"features/{feature}/{video}"
        with self._reading(feature, video, packed):
            if packed is not None:
                stored = self.packed_video(feature, video, packed)
                values = stored.rows.read(into)
                check_no_shard_is_missing(values)
                return VideoFeature(values, stored.present, stored.fps)
            attrs, shape = self._whole_attrs(feature, video)
            plain = find_plain_array(self._tree.store, f"{key}/values")
            values = as_numpy(self._tree.root[f"{key}/values"]) if plain is None else plain.read(into)
            present = self._read_array(f"{key}/present")
            check_shapes(values if plain is None else plain, present, attrs, shape)
            check_no_shard_is_missing(values)
            if into is not None and values is not into:
                into[...] = values
            return VideoFeature(values if into is None else into, present, float(attrs["fps"]))

    def read_quality(self, feature: str, video: str) -> NDArray[np.float32] | None:
        """(frames,) the quality of the crops, see `abaw.extract.faces.quality`; None where it is unknown.

        Raises:
            StoreError: like `read`.
        """
        return self._packed_or_not(f"features/{feature}", video, partial(self._read_quality, feature, video))

    def _read_quality(self, feature: str, video: str, packed: PackedVideo | None) -> NDArray[np.float32] | None:
        path = f"features/{feature}"
        with self._reading(feature, video, packed):
            attrs = self._whole_attrs(feature, video)[0] if packed is None else _attrs_of(packed)
            if attrs.get(QUALITY) is not True:
                return None
            if packed is None:
                quality = self._read_array(f"{path}/{video}/{QUALITY}")
            else:
                quality = self.packs.rows(path, packed.beside(QUALITY)).read()
            if quality.shape != (attrs["n_frames"],) or quality.dtype != np.float32 or not np.isfinite(quality).all():
                raise ValueError("its quality is not a finite number for each frame")
            return quality

    def stored_video(self, feature: str, video: str) -> "StoredVideo | None":
        """One feature of one video, to be read in parts from its files; None if only the whole can be read.

        Raises:
            StoreError: like `read`, but damage in its values is only found where they are read.
        """
        return self._packed_or_not(f"features/{feature}", video, partial(self._stored_video, feature, video))

    def _stored_video(self, feature: str, video: str, packed: PackedVideo | None) -> "StoredVideo | None":
        key = f"features/{feature}/{video}"
        with self._reading(feature, video, packed):
            if packed is not None:
                return self.packed_video(feature, video, packed)
            attrs, shape = self._whole_attrs(feature, video)
            values = find_plain_array(self._tree.store, f"{key}/values")
            if values is None:
                return None
            present = self._read_array(f"{key}/present")
            check_shapes(values, present, attrs, shape)
            reading = partial(self._reading, feature, video, None)
            return StoredVideo(values.rows(0, len(present)), present, float(attrs["fps"]), reading)

    def packed_video(self, feature: str, video: str, packed: PackedVideo) -> "StoredVideo":
        """A packed video, unread; see `abaw.store.in_turn`.

        Raises:
            ValueError: it is damaged.
        """
        attrs = _attrs_of(packed)
        if not is_video(attrs):
            raise ValueError("its attributes are invalid")
        present = np.ones(packed.n_rows, dtype=np.bool_) if packed.present is None else packed.present
        rows, shape = self.packs.rows(f"features/{feature}", packed), self._shape_of(feature)
        check_shapes(rows, present, attrs, shape)
        return StoredVideo(rows, present, float(attrs["fps"]), partial(self._reading, feature, video, packed))

    def _shape_of(self, feature: str) -> tuple[int, ...]:
        """The shape of a frame of a feature, whose attributes do not change."""
        if feature not in self._shapes:
            self._shapes[feature] = tuple(attrs_at(self._tree.store, [f"features/{feature}"])[0]["spec"]["shape"])
        return self._shapes[feature]

    def _packed_or_not(self, path: str, video: str, read: Callable[[PackedVideo | None], Result]) -> Result:
        """What is read of a video, packed or not; read again if it was packed, or packed again, meanwhile."""
        packed = self.packs.find(path, video)
        try:
            result = read(packed)
            if result is not None or packed is not None:
                return result
        except UnreachableError:
            raise
        except StoreError:
            packed_now = self.packs.find_now(path, video)
            if packed_now is None or (packed is not None and packed_now.place == packed.place):
                raise
            return read(packed_now)
        packed_now = self.packs.find_now(path, video)
        return result if packed_now is None else read(packed_now)

    def read_rows(self, feature: str, video: str, start: int, stop: int, into: NDArray) -> None:
        """Read some rows of one feature of one video, see `read`; of a store that only Zarr reads, the whole video.

        Args:
            into: (stop - start, *shape), where the values go.
        """
        stored = self.stored_video(feature, video)
        if stored is None:
            into[...] = self.read(feature, video).values[start:stop]
            return
        with stored.reading():
            stored.rows.part(start, stop).read(into)
            check_no_shard_is_missing(into)

    def read_present(self, feature: str, video: str) -> NDArray[np.bool_]:
        """(frames,) bool of one feature of one video, without its values."""
        stored = self.stored_video(feature, video)
        return self.read(feature, video).present if stored is None else stored.present

    def to_dask(self, feature: str, chunk_bytes: int = DASK_CHUNK_BYTES) -> "DaskFeature":
        """A feature of all complete videos as one dask array, and which rows of it are which video.

        Nothing is read before dask computes. Rows of frames without a crop or sound are zeros; `present` says which.

        Args:
            chunk_bytes: about the size of a chunk; workers hold a few.

        Raises:
            UsageError: there is no such feature.
            StoreError: it has no complete video.
        """
        from abaw.store.dask_arrays import dask_feature

        return dask_feature(self, feature, chunk_bytes)

    def read_ranges(self, ranges: Sequence[tuple[str, int, int]]) -> list[bytes | None]:
        """Parts of files of the store, read at the same time; None for a file that does not exist.

        Args:
            ranges: key of a file, its first byte and the one after the last.

        Raises:
            UnreachableError: the disk or the network is at fault.
        """
        with report_unreachable(self.path):
            return read_ranges(self._tree.store, ranges)

    @contextmanager
    def _reading(self, feature: str, video: str, packed: PackedVideo | None) -> Iterator[None]:
        """Turns errors in reading a video into StoreErrors that name it."""
        key = f"features/{feature}/{video}"
        with report_unreachable(f"{self.path}/{key}"):
            try:
                yield
            except Exception as error:  # zarr and its codecs raise many types for damaged bytes
                if isinstance(error, StoreError) or is_outside(error):
                    raise
                delete = self._how_to_delete(key, packed is not None)
                raise StoreError(
                    f"Feature {feature!r} of video {video!r} is damaged ({first_line(error)}). "
                    f"{delete} and run the same `abaw extract` again."
                ) from error

    def _whole_attrs(self, feature: str, video: str) -> tuple[dict[str, Any], tuple[int, ...]]:
        """Attributes of a complete video, and the shape of a frame."""
        attrs, attrs_of_feature = attrs_at(self._tree.store, [f"features/{feature}/{video}", f"features/{feature}"])
        if not attrs.get("complete"):
            self._check_exists(feature, video)
        if not is_video(attrs):
            raise ValueError("its attributes are invalid")
        return attrs, tuple(attrs_of_feature["spec"]["shape"])

    def _read_array(self, path: str) -> NDArray:
        plain = find_plain_array(self._tree.store, path)
        return as_numpy(self._tree.root[path]) if plain is None else plain.read()

    def _check_exists(self, feature: str, video: str) -> None:
        if video not in self._tree.names(f"features/{feature}"):
            raise StoreError(f"Feature {feature!r} has no video {video!r} in {self.path}.")
        if self._tree.is_cut_off(f"features/{feature}/{video}"):
            raise StoreError(
                f"Feature {feature!r} of video {video!r} is incomplete. Run the same `abaw extract` again."
            )

    def drop(self, *paths: str) -> None:
        """Delete groups or arrays, such as `features/hog/video-1`, packed or not; the next extract writes them again."""
        check_claims()
        by_group: dict[str, list[str]] = {}
        for path in paths:
            group, _, name = path.rpartition("/")
            by_group.setdefault(group, []).append(name)
        for group, names in by_group.items():
            if group.count("/") == 1:
                self.packs.remove(group, names)
            elif group.endswith(f"/{PACKS}/{INDEX}"):
                self.packs.forget(group.removesuffix(f"/{PACKS}/{INDEX}"), names)
            self._tree.drop([f"{group}/{name}" if group else name for name in names])

    def sweep(self) -> None:
        """Delete temporary files that killed processes left next to the metadata of features and labels."""
        self._tree.sweep(self._tree.names("features"))

    def writer(self, feature: str, video: str, n_frames: int, rows: NDArray, attrs: dict[str, Any]) -> VideoWriter:
        """A writer for one video; an existing one is replaced once the first shard is ready.

        Args:
            n_frames: frames of the video.
            rows: (present,) frame number - 1 of each frame that will be written, in any order.
            attrs: `fps`, `source` and other attributes to store with the video.
        """
        group = self._tree.group(f"features/{feature}")
        self.packs.wrote(f"features/{feature}", video)
        return VideoWriter(group, check_name(video, "video"), n_frames, rows, attrs)

    # packing

    def unpacked(self, path: str) -> list[str]:
        """Names of what is in `features/<feature>` or `labels/<task>` by itself, complete or not, sorted."""
        return self._tree.names(path)

    def drop_unpacked(self, paths: Sequence[str]) -> None:
        """Delete what is at some paths by itself; if it is packed, that counts again."""
        check_claims()
        self._tree.drop(paths)

    def mark_packed(self) -> None:
        """Note that some videos are packed, so that earlier versions say that they cannot read the store."""
        if self._tree.root.attrs.get("format") != PACKED_FORMAT:
            self._tree.root.update_attributes({"format": PACKED_FORMAT})

    # labels

    def tasks(self) -> list[str]:
        """Tasks that have labels, sorted."""
        return self._tree.names("labels")

    def write_labels(
        self, task: str, video: str, split: str, rows: NDArray, doubles: Doubles | None = None, person: str = ""
    ) -> bool:
        """Store the labels of one video as published; False if identical ones exist already.

        Args:
            person: who is in the video; empty if unknown.
        """
        check_name(video, "video")
        if task not in self._label_groups:
            self._tree.require("labels", task)
            self._label_groups.add(task)
        chunk, metadata = encode_labels(video, split, rows, doubles, person)
        try:
            if self._is_packed(task, video, metadata):
                return False
            self.packs.wrote(f"labels/{task}", video)
            return put_whole(self._tree.store, f"labels/{task}/{video}", chunk, metadata)
        except OSError as error:
            if error.errno not in MISPLACED:
                raise
            raise self._damaged_labels(task, video, first_line(error)) from error

    def _is_packed(self, task: str, video: str, metadata: bytes) -> bool:
        """True if labels are packed that have the same metadata, and so the same content."""
        packed = self.packs.find(f"labels/{task}", video)
        if packed is None:
            return False
        content = json.loads(metadata)
        array = name_of_array(tuple(content["shape"][1:]), np.dtype(content["data_type"]))
        attrs = {key: value for key, value in content["attributes"].items() if key not in MADE_WHEN_READ}
        return (packed.array, packed.n_rows, packed.attrs) == (array, content["shape"][0], attrs)

    def label_names(self, task: str) -> list[str]:
        """Videos that have labels of a task, complete or not, sorted."""
        if task not in self.tasks():
            return []
        names = self._tree.names(f"labels/{task}")
        packed = self.packs.look(f"labels/{task}")
        return sorted({*names, *packed}) if packed else names

    def read_labels(self, task: str, video: str) -> VideoLabels:
        """Read the labels of one video.

        Raises:
            StoreError: they are missing, cut off, or damaged.
        """
        labels = self._find_labels(task, video)
        if labels is None:
            raise self.incomplete_labels(task, video)
        return labels

    def incomplete_labels(self, task: str, video: str) -> StoreError:
        """The error for labels of a video that are missing or cut off."""
        return self._damaged_labels(task, video, "they are incomplete")

    def _find_labels(self, task: str, video: str) -> VideoLabels | None:
        """The labels of one video; None if they are missing or cut off."""
        read = partial(self._decoded_labels, task, video)
        return self._packed_or_not(f"labels/{task}", video, read)

    def _decoded_labels(self, task: str, video: str, packed: PackedVideo | None) -> VideoLabels | None:
        with self._reading_labels(task, video, packed):
            content = self._label_content(task, video, packed)
            if content is None:
                return None
            return _labels_in(*content)

    def label_content(self, task: str, video: str) -> tuple[NDArray, Mapping[str, Any]] | None:
        """The array of the labels of a video as it is stored, and its attributes; None if they are cut off."""
        packed = self.packs.find(f"labels/{task}", video)
        with self._reading_labels(task, video, packed):
            return self._label_content(task, video, packed)

    def _label_content(
        self, task: str, video: str, packed: PackedVideo | None
    ) -> tuple[NDArray, Mapping[str, Any]] | None:
        path = f"labels/{task}"
        if packed is not None:
            return self.packs.rows(path, packed).read(), _attrs_of(packed)
        try:
            plain = find_plain_array(self._tree.store, f"{path}/{video}")
            array = self._tree.root[f"{path}/{video}"] if plain is None else plain
            if "complete" not in array.attrs:
                return None
            return as_numpy(array) if plain is None else plain.read(), dict(array.attrs)
        except KeyError:
            return None

    @contextmanager
    def _reading_labels(self, task: str, video: str, packed: PackedVideo | None) -> Iterator[None]:
        """Turns errors in reading labels into StoreErrors that name them."""
        with report_unreachable(f"{self.path}/labels/{task}/{video}"):
            try:
                yield
            except Exception as error:  # zarr and its codecs raise many types for damaged bytes
                if isinstance(error, StoreError) or is_outside(error):
                    raise
                raise self._damaged_labels(task, video, first_line(error), packed is not None) from error

    def _how_to_delete(self, key: str, is_packed: bool) -> str:
        command = f"abaw store repair {shlex.quote(str(self.path))}"
        return f"Run `{command}`" if is_packed else f"Delete {self.path}/{key}"

    def _damaged_labels(self, task: str, video: str, why: str, is_packed: bool = False) -> StoreError:
        delete = self._how_to_delete(f"labels/{task}/{video}", is_packed)
        return StoreError(
            f"The {task} labels of video {video!r} are damaged ({why}). {delete} and run `abaw extract` again."
        )

    def labels(self, task: str, split: str | None = None) -> dict[str, VideoLabels]:
        """Labels of a task by video in sorted order, of one split or of all.

        Raises:
            StoreError: a video's labels are damaged. Labels that a killed process left unfinished are skipped.
        """
        names = self.label_names(task)
        found = dict(self.find_labels(task, names))
        labels = {}
        for name in names:
            one = found[name]
            if isinstance(one, StoreError):
                raise one
            if one is not None and split in (None, one.split):
                labels[name] = one
        return labels

    def find_labels(self, task: str, names: Iterable[str]) -> Iterator[tuple[str, VideoLabels | StoreError | None]]:
        """Labels of some videos by name, in any order; an error where they are damaged, None where they are cut off.

        Packed ones are read in one pass.
        """
        others = dict.fromkeys(names)
        for name, labels in self._packed_labels(task, others):
            del others[name]
            yield name, labels
        yield from zip(others, map_ahead(partial(self._labels_or_error, task), others, self.n_readers), strict=True)

    def _packed_labels(self, task: str, names: Iterable[str]) -> Iterator[tuple[str, VideoLabels]]:
        """Those of some videos whose labels are packed; without those that only `_find_labels` can read."""
        path = f"labels/{task}"
        packed = self.packs.look(path)
        alone = set(self._tree.names(path)) if packed else set()
        rows = RowsInTurn(self.packs, path, packed, [name for name in names if name in packed and name not in alone])
        for name in rows.names:
            try:
                labels = _labels_in(rows.read(name).copy(), packed.attrs(name))
            except Exception:  # foreign files may contain anything; who reads it alone says what is wrong
                continue
            yield name, labels

    def _labels_or_error(self, task: str, video: str) -> VideoLabels | StoreError | None:
        try:
            return self._find_labels(task, video)
        except StoreError as error:
            return error

    @property
    def n_readers(self) -> int:
        """How many concurrent reads pay off: several over a network, one on a local disk."""
        return READERS_FAR_AWAY if is_url(self.path) else 1

    @property
    def notes(self) -> Notes:
        """Small texts next to the data."""
        return Notes(self._tree.store)


@lru_cache(maxsize=8)
def _opened(path: str) -> FeatureStore:
    """The store at a path, for what other processes send here."""
    return FeatureStore.open(path)
