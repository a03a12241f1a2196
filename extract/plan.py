"""What an extraction has to do: labels first, then the videos by the features that they still lack."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from abaw.core.clock import CLOCK, DECODED, Clock
from abaw.core.errors import DataError, StoreError
from abaw.core.names import check_name
from abaw.core.parts import parse_part, split_evenly
from abaw.core.progress import Reporter, Summary
from abaw.datasets.clips import Clip
from abaw.datasets.crops import Crops, describe_no_crops
from abaw.datasets.dataset import Dataset, Video
from abaw.datasets.sound_files import find_sound_files, sound_digest, sound_file_of
from abaw.extract.audio_runner import AudioSource
from abaw.extract.feature import Feature
from abaw.extract.reader import Source, decode_clip
from abaw.media.images import read_image
from abaw.store import FeatureStore

MOST_NAMED = 5  # videos in one warning


def own_part(dataset: Dataset, part: str) -> Dataset:
    """The dataset with only the videos of a part, see `ExtractOptions.part`; the labels stay with the first part."""
    if not part:
        return dataset
    number, total = parse_part(part)
    sizes = {}
    for video in dataset.videos:
        try:
            sizes[video.name] = video.n_crops()
        except OSError:  # whoever has this part will say so
            sizes[video.name] = 0
    mine = set(split_evenly(sizes, total)[number - 1])
    labels = dataset.labels if number == 1 else ()
    return replace(dataset, videos=tuple(video for video in dataset.videos if video.name in mine), labels=labels)


@dataclass(frozen=True)
class ExtractionPlan:
    """What is to be extracted.

    Attributes:
        groups: names of videos and numbers of their crops, by the names of the features that they lack.
        n_frames: to be read; a crop counts once for pictures and once for sound.
    """

    groups: Mapping[tuple[str, ...], Mapping[str, int]]
    n_frames: int

    @property
    def n_crops(self) -> int:
        """Crops of all videos."""
        return sum(sum(sizes.values()) for sizes in self.groups.values())


def plan_extraction(
    dataset: Dataset, store: FeatureStore, features: Sequence[Feature], summary: Summary, reporter: Reporter
) -> ExtractionPlan:
    """Find what the videos still lack; those that are complete go into the summary.

    A video that cannot be stored under its name fails here, before any work. Files of videos are decoded for the times
    of their pictures, if they were not before and are needed.
    """
    complete = {feature.name: store.videos(feature.name) for feature in features}
    kinds = {feature.name: feature.spec.modality for feature in features}
    sounds = find_sound_files(dataset.root)
    dataset.time_videos((video for video in dataset.videos if not _is_counted(video, complete)), reporter)

    def lacks(video: Video) -> tuple[tuple[str, ...], int]:
        """Features that a video lacks, and the number of its crops."""
        if not any(video.name in videos for videos in complete.values()):
            return tuple(complete), video.n_crops()
        crops = video.crops()
        digest = dataset.digest(video, crops)
        digests = {"vision": digest, "audio": sound_digest(digest, sound_file_of(video, sounds, dataset.people))}
        n_wanted = {"vision": len(crops.numbers), "audio": 0}
        pending: list[str] = []
        broken: dict[str, None] = {}  # sentences; the features may share them
        for name, videos in complete.items():
            attrs, wanted = videos.get(video.name, {}), digests[kinds[name]]
            is_same = attrs.get("source") == wanted and _has_its_clock(dataset, video, crops, attrs)
            if is_same and attrs["n_present"] >= n_wanted[kinds[name]]:
                continue
            found = _still_broken(store, name, video, crops) if is_same else []
            broken |= dict.fromkeys(found)
            if not found:
                pending.append(name)
        if not any(kinds[name] == "vision" for name in pending):  # else reading the video will say it
            summary.broken_frames += broken
        return tuple(pending), len(crops.numbers)

    groups: dict[tuple[str, ...], dict[str, int]] = {}
    for video in dataset.videos:
        try:
            check_name(video.name, "video")
            pending, n_crops = lacks(video)
        except StoreError as error:
            summary.failed[video.name] = str(error)
            continue
        except OSError as error:
            summary.failed[video.name] = _unreadable(video, error)
            continue
        if pending:
            groups.setdefault(pending, {})[video.name] = n_crops
        else:
            summary.skipped.append(video.name)
    n_frames = sum(sum(sizes.values()) * len({kinds[name] for name in pending}) for pending, sizes in groups.items())
    return ExtractionPlan(groups, n_frames)


def _is_counted(video: Video, complete: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> bool:
    """True if all features have a video with as many rows as its file's decoder gives pictures."""
    return all(videos.get(video.name, {}).get(CLOCK) == DECODED for videos in complete.values())


def _has_its_clock(dataset: Dataset, video: Video, crops: Crops, attrs: Mapping[str, Any]) -> bool:
    """False if a video was stored with other rows than the pictures of its file, as older versions did."""
    if video.file is None or isinstance(video, Clip) or attrs.get(CLOCK) == DECODED:
        return True
    try:
        return dataset.clock(video, crops).n_frames == attrs["n_frames"]
    except DataError:  # said where it is read
        return True


def _is_whole(attrs: Mapping[str, Any], digest: str, n_wanted: int) -> bool:
    """True if a video of a feature lacks no row.

    Args:
        attrs: of the video in the store; empty where it is not complete.
        digest: of what it is made from.
        n_wanted: rows that should be present.
    """
    return attrs.get("source") == digest and attrs["n_present"] >= n_wanted


def _still_broken(store: FeatureStore, feature: str, video: Video, crops: Crops) -> list[str]:
    """Sentences for the crops that a feature lacks; empty if one of them can be read by now.

    A good image may have taken the place of a broken one, with the same size and so with the same digest. What is there
    of the video is not given up for images that are as broken as before.
    """
    try:
        present = store.read(feature, video.name).present
    except StoreError:
        return []
    if isinstance(video, Clip):
        frames = decode_clip(Source(video, crops, Clock(0.0, 0), ""))
        return list(dict.fromkeys(message for _, message in frames.broken)) if len(frames.rows) <= present.sum() else []
    sentences = []
    for number, name in zip(crops.numbers.tolist(), crops.names, strict=True):
        if number > len(present) or not present[number - 1]:
            try:
                read_image(crops.folder / name)
                return []
            except DataError as error:
                sentences.append(str(error))
    return sentences


def _unreadable(video: Video, error: OSError) -> str:
    return f"{error.filename or video.folder} cannot be read ({error.strerror})"


@dataclass(frozen=True)
class Reading:
    """Videos to be read, listed as they are reached, for features of one kind.

    What was assumed of a clock or failed goes into the summary. A video that was finished meanwhile, as by a worker that
    died after it, goes there as skipped; one of broken images is read again, for nobody can say any more which these are.
    """

    dataset: Dataset
    store: FeatureStore
    features: Sequence[str]
    summary: Summary
    on_frames: Callable[[int], None]

    def frame_sources(self, videos: Iterable[Video]) -> Iterator[Source]:
        """Videos whose crops are to be read."""
        for source in self._sources(videos):
            n_crops = len(source.crops.numbers)
            if not self._is_finished(source, source.digest, n_wanted=n_crops):
                yield source

    def sound_sources(self, videos: Iterable[Video]) -> Iterator[AudioSource]:
        """Videos whose sound is to be read."""
        sounds = find_sound_files(self.dataset.root)
        for source in self._sources(videos):
            if not source.clock.n_frames:
                self.summary.failed[source.video.name] = describe_no_crops(source.crops)
                continue
            sound = sound_file_of(source.video, sounds, self.dataset.people)
            digest, n_crops = sound_digest(source.digest, sound), len(source.crops.numbers)
            if not self._is_finished(source, digest):
                yield AudioSource(source.video, sound, source.clock, digest, n_crops)

    def _sources(self, videos: Iterable[Video]) -> Iterator[Source]:
        for video in videos:
            try:
                crops = video.crops()
                clock = self.dataset.clock(video, crops)
                digest = self.dataset.digest(video, crops)
            except DataError as error:  # a clip's file, or a crop of number 0
                self.summary.failed[video.name] = str(error)
                continue
            except OSError as error:
                self.summary.failed[video.name] = _unreadable(video, error)
                continue
            if clock.warning:
                self.summary.warnings.append(f"{video.name}: {clock.warning}")
            yield Source(video, crops, clock, digest)

    def _is_finished(self, source: Source, digest: str, n_wanted: int = 0) -> bool:
        """True if all features of a video are there by now.

        Args:
            digest: of what it is made from.
            n_wanted: of its frames should be present.
        """
        try:
            found = [self.store.video_attrs(name, source.video.name) for name in self.features]
        except StoreError:  # writing will say it, if it does not come back
            return False
        n_frames = source.clock.n_frames  # older versions counted otherwise
        if not all(_is_whole(attrs, digest, n_wanted) and attrs["n_frames"] == n_frames for attrs in found):
            return False
        self.summary.skipped.append(source.video.name)
        self.on_frames(len(source.crops.numbers))
        return True
