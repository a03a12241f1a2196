"""FeatureStore: per-frame features and labels in one Zarr v3 group, the seam between the two stages.

    store.zarr                                attrs: format
      features/<feature>/                     attrs: spec, weights_sha256, fingerprint, abaw
        <video>/values   (frames, *shape)     float16, or float32 where values need it; crc32c per chunk of 256 frames
                present  (frames,) bool       the frame had a crop, or sound
                attrs: fps, n_frames, n_present, dtype, source, precision, complete (written last)
      labels/<task>/<video>  (rows, columns)  as published, invalid values kept; attrs: split, source, complete

Row i is frame i+1 of the video, for every feature and for the labels. A video is written by one writer, in whole
shards, and counts only once `complete` stands in its attributes, so that a writer killed at any moment leaves
nothing that is ever read. Values are not compressed: features do not compress.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec

from abaw import __version__
from abaw.errors import StoreError, UsageError
from abaw.reporting import Reporter
from abaw.writer import VideoWriter

FORMAT = 1


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
class FeatureInfo:
    """Sums over the complete videos of a feature; `n_missing` frames have no value, `n_incomplete` videos are cut off."""

    feature: str
    weights: str
    shape: tuple[int, ...]
    n_videos: int
    n_frames: int
    n_missing: int
    n_bytes: int
    fingerprint: str
    n_incomplete: int


@dataclass(frozen=True)
class VideoLabels:
    """Labels of one video: `rows` is (rows, columns) as published, row i belongs to frame i+1."""

    split: str
    rows: NDArray


def check_name(name: str, what: str) -> str:
    """Return `name` if it is safe as one path component of the store, else raise a StoreError."""
    if not name or name[0] in "._" or any(c in "/\\\0" for c in name) or name != name.strip():
        raise StoreError(
            f"{name!r} cannot be the name of a {what}: a name must not be empty, start with '.' or '_', "
            "or contain a slash. Rename it."
        )
    return name


class FeatureStore:
    """Features and labels by video. Open with `FeatureStore.open` (read) or `FeatureStore.create` (read and write)."""

    def __init__(self, root: zarr.Group, path: str) -> None:
        self.path = path
        self._root = root

    @classmethod
    def open(cls, path: Path | str) -> "FeatureStore":
        """Open an existing store for reading.

        Raises:
            StoreError: nothing is there, or it is no store of this format.
        """
        try:
            root = zarr.open_group(str(path), mode="r", use_consolidated=False)
        except (FileNotFoundError, ValueError) as error:
            raise StoreError(
                f"No feature store at {path}. Make one with `abaw extract --store {path}`, or name another "
                "with --store."
            ) from error
        return cls(root, str(path))._checked()

    @classmethod
    def create(cls, path: Path | str) -> "FeatureStore":
        """Open a store for writing; make it if nothing is there."""
        place = Path(path)
        if place.is_dir() and any(place.iterdir()) and not (place / "zarr.json").exists():
            raise StoreError(
                f"{path} is a folder with other things in it, not a feature store. Name another with --store."
            )
        root = zarr.open_group(str(path), mode="a", use_consolidated=False)
        if "format" not in root.attrs:
            root.require_group("features")
            root.require_group("labels")
            root.update_attributes({"format": FORMAT})
        return cls(root, str(path))._checked()

    def _checked(self) -> "FeatureStore":
        found = self._root.attrs.get("format")
        if found != FORMAT:
            raise StoreError(
                f"{self.path} has store format {found!r}; this version of abaw reads format {FORMAT}. "
                "Extract again into a new store, or use the version of abaw that wrote it."
            )
        return self

    # features

    def features(self) -> list[str]:
        """Names of the features, sorted."""
        return sorted(self._group("features").group_keys())

    def feature_attrs(self, feature: str) -> dict[str, Any]:
        """`spec`, `weights_sha256`, `fingerprint` and the writing version of a feature.

        Raises:
            UsageError: no such feature; the message lists those that are there.
        """
        if feature not in self.features():
            known = ", ".join(self.features()) or "none yet"
            raise UsageError(
                f"No feature {feature!r} in {self.path}; it has: {known}. "
                f"Make it with `abaw extract --backbone {feature}`, or choose one with --feature."
            )
        return dict(self._group(f"features/{feature}").attrs)

    def add_feature(self, feature: str, spec: dict[str, Any], weights_sha256: str | None, fingerprint: str) -> None:
        """Register a feature, or check that the one of this name was made the same way.

        Raises:
            StoreError: the feature exists with another fingerprint.
        """
        check_name(feature, "feature")
        group = self._group("features").require_group(feature)
        found = group.attrs.get("fingerprint")
        if found is None:
            group.update_attributes(
                {
                    "spec": spec,
                    "weights_sha256": weights_sha256,
                    "fingerprint": fingerprint,
                    "abaw": __version__,
                }
            )
        elif found != fingerprint:
            raise StoreError(
                f"Feature {feature!r} in {self.path} was made with fingerprint {str(found)[:12]}, this backbone has "
                f"{fingerprint[:12]}: other weights or settings. Keep both by naming this one, as in "
                f"`--backbone NEWNAME=...`, or delete {self.path}/features/{feature} to replace it."
            )

    def videos(self, feature: str) -> dict[str, dict[str, Any]]:
        """Attributes of each complete video of a feature, by name in sorted order."""
        members = self._group(f"features/{feature}").groups()
        found = {name: dict(group.attrs) for name, group in members if group.attrs.get("complete")}
        return dict(sorted(found.items()))

    def incomplete(self, feature: str) -> list[str]:
        """Videos of a feature whose writing was cut off. They are never read; the next extract writes them again."""
        members = self._group(f"features/{feature}").groups()
        return sorted(name for name, group in members if not group.attrs.get("complete"))

    def read(self, feature: str, video: str) -> VideoFeature:
        """Read one feature of one video, checksums verified.

        Raises:
            StoreError: the video is not there, or damaged.
        """
        place = f"features/{feature}/{video}"
        try:
            group = self._group(place)
        except KeyError:
            raise StoreError(f"Feature {feature!r} has no video {video!r} in {self.path}.") from None
        if not group.attrs.get("complete"):
            raise StoreError(
                f"Feature {feature!r} of video {video!r} is incomplete. Run the same `abaw extract` again."
            )
        try:
            values = _as_numpy(group["values"])
            present = _as_numpy(group["present"])
            self._check_whole(values, present, group.attrs)
        except Exception as error:  # zarr and its codecs raise many types for damaged bytes
            raise StoreError(
                f"Feature {feature!r} of video {video!r} is damaged ({_first_line(error)}). "
                f"Delete {self.path}/{place} and run the same `abaw extract` again."
            ) from error
        return VideoFeature(values, present, float(str(group.attrs["fps"])))

    @staticmethod
    def _check_whole(values: NDArray, present: NDArray, attrs: Any) -> None:
        # A missing shard reads as the fill value, NaN, which is never stored.
        if len(values) != len(present) or present.sum() != attrs["n_present"]:
            raise ValueError("its arrays disagree")
        if np.isnan(values.reshape(len(values), -1)[:, :1]).any():
            raise ValueError("a shard is missing")

    def writer(self, feature: str, video: str, n_frames: int, rows: NDArray, attrs: dict[str, Any]) -> VideoWriter:
        """A writer for one video; whatever was there is replaced once the first shard is ready.

        Args:
            n_frames: frames of the video.
            rows: (present,) frame number - 1 of each frame that will come, in any order.
            attrs: `fps`, `source` and what else is to be kept with the video.
        """
        return VideoWriter(self._group(f"features/{feature}"), check_name(video, "video"), n_frames, rows, attrs)

    # labels

    def tasks(self) -> list[str]:
        """Tasks that have labels, sorted."""
        return sorted(self._group("labels").group_keys())

    def write_labels(self, task: str, video: str, split: str, rows: NDArray) -> bool:
        """Store the labels of one video as published; False if the very same ones are there already."""
        group = self._group("labels").require_group(task)
        source = hashlib.sha256(rows.tobytes()).hexdigest()
        if check_name(video, "video") in group:
            attrs = group[video].attrs
            if attrs.get("complete") and attrs.get("source") == source and attrs.get("split") == split:
                return False
            del group[video]
        array = group.create_array(
            video,
            shape=rows.shape,
            dtype=rows.dtype,
            chunks=rows.shape,
            compressors=[Crc32cCodec()],
            filters=None,
            attributes={"split": split, "source": source},
            config={"write_empty_chunks": True},
        )
        array[:] = rows
        array.update_attributes({"complete": True})
        return True

    def labels(self, task: str, split: str | None = None) -> dict[str, VideoLabels]:
        """Labels of a task by video in sorted order, of one split or of all."""
        if task not in self.tasks():
            return {}
        found = {}
        for video, array in self._group(f"labels/{task}").arrays():
            if array.attrs.get("complete") and split in (None, array.attrs["split"]):
                try:
                    rows = _as_numpy(array)
                except Exception as error:
                    raise StoreError(
                        f"The {task} labels of video {video!r} are damaged ({_first_line(error)}). "
                        f"Delete {self.path}/labels/{task}/{video} and run `abaw extract` again."
                    ) from error
                found[video] = VideoLabels(str(array.attrs["split"]), rows)
        return dict(sorted(found.items()))

    # the whole

    def info(self) -> list[FeatureInfo]:
        """What is there of each feature."""
        found = []
        for feature in self.features():
            attrs, videos = self.feature_attrs(feature), self.videos(feature)
            frames = sum(int(video["n_frames"]) for video in videos.values())
            shape = tuple(attrs["spec"]["shape"])
            n_bytes = sum(
                int(video["n_frames"]) * int(np.prod(shape)) * np.dtype(video["dtype"]).itemsize
                for video in videos.values()
            )
            n_missing = frames - sum(int(video["n_present"]) for video in videos.values())
            weights = str(attrs["spec"]["weights"])
            n_incomplete = len(self.incomplete(feature))
            found.append(
                FeatureInfo(
                    feature, weights, shape, len(videos), frames, n_missing, n_bytes, attrs["fingerprint"], n_incomplete
                )
            )
        return found

    def verify(self, reporter: Reporter) -> list[str]:
        """Read everything. A sentence for each damaged or incomplete video and each disagreement over frames."""
        problems = []
        lengths: dict[str, dict[str, int]] = {}
        reporter.start("verify", sum(len(self.videos(feature)) for feature in self.features()), "videos")
        for feature in self.features():
            problems += [
                f"Feature {feature!r} of video {video!r} is incomplete. Run the same `abaw extract` again."
                for video in self.incomplete(feature)
            ]
            for video in self.videos(feature):
                try:
                    lengths.setdefault(video, {})[feature] = len(self.read(feature, video).values)
                except StoreError as error:
                    problems.append(str(error))
                reporter.advance()
        for video, by_feature in lengths.items():
            if len(set(by_feature.values())) > 1:
                counts = ", ".join(f"{feature} {n}" for feature, n in by_feature.items())
                problems.append(f"The features of video {video!r} disagree on its number of frames: {counts}.")
        for task in self.tasks():
            try:
                self.labels(task)
            except StoreError as error:
                problems.append(str(error))
        return problems

    def _group(self, path: str) -> zarr.Group:
        node = self._root[path]
        if not isinstance(node, zarr.Group):
            raise KeyError(path)
        return node


def _as_numpy(array: Any) -> NDArray:
    return np.asarray(array[...])


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
