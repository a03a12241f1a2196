"""Planning an extraction: which features each video still lacks, and opening videos to make them."""

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from abaw.core.clock import CLOCK, DECODED
from abaw.core.errors import DataError, StoreError
from abaw.core.names import check_name
from abaw.core.progress import OnFrames, Reporter, Summary
from abaw.core.system_errors import in_words
from abaw.datasets.clips import ClipFrames
from abaw.datasets.dataset import Dataset
from abaw.datasets.frames import BrokenFrame, FrameSource, Video
from abaw.datasets.image_folders import CropFrames
from abaw.extract.audio_runner import AudioSource
from abaw.extract.faces.followed_videos import FollowedFrames, FollowedVideo
from abaw.extract.feature import Feature
from abaw.extract.people_in_store import PeopleInStore, stored_people
from abaw.extract.selection import Companions, CurrentSource, has_its_clock, sound_source, text_source
from abaw.extract.text_runner import TextSource
from abaw.media.decoders import PROCESSOR, Decoder
from abaw.store import FeatureStore


@dataclass(frozen=True)
class ExtractionPlan:
    """What to extract.

    Attributes:
        groups: by the names of the features that they lack: videos with their numbers of frames.
        n_modalities: how many of pictures, sound and text each group of features takes.
    """

    groups: Mapping[tuple[str, ...], Mapping[str, int]]
    n_modalities: Mapping[tuple[str, ...], int]

    @property
    def n_frames(self) -> int:
        """Frames to read; a frame counts once for its picture, its sound and its text each."""
        return sum(sum(sizes.values()) * self.n_modalities[pending] for pending, sizes in self.groups.items())

    @property
    def n_crops(self) -> int:
        """Frames of all videos."""
        return sum(sum(sizes.values()) for sizes in self.groups.values())

    @property
    def n_videos(self) -> int:
        """Videos that lack features."""
        return sum(map(len, self.groups.values()))

    def split(self, n_videos: int) -> "tuple[ExtractionPlan, ExtractionPlan]":
        """The first videos, and the rest."""
        first: dict[tuple[str, ...], Mapping[str, int]] = {}
        rest: dict[tuple[str, ...], Mapping[str, int]] = {}
        for pending, sizes in self.groups.items():
            names, n_taken = list(sizes), max(0, n_videos - sum(map(len, first.values())))
            for plan, part in ((first, names[:n_taken]), (rest, names[n_taken:])):
                if part:
                    plan[pending] = {name: sizes[name] for name in part}
        return ExtractionPlan(first, self.n_modalities), ExtractionPlan(rest, self.n_modalities)

    def without(self, videos: Container[str]) -> "ExtractionPlan":
        """The plan without some videos."""
        groups = {
            pending: {name: size for name, size in sizes.items() if name not in videos}
            for pending, sizes in self.groups.items()
        }
        return ExtractionPlan(groups, self.n_modalities)


def plan_extraction(
    dataset: Dataset,
    store: FeatureStore,
    features: Sequence[Feature],
    summary: Summary,
    reporter: Reporter,
    companions: Companions,
) -> ExtractionPlan:
    """Find out which features each video lacks; complete videos go into the summary.

    A video whose name the store cannot take fails here, before any work. Video files whose picture times are needed and
    not known yet are decoded once.
    """
    stored = {feature.name: store.videos(feature.name) for feature in features}
    modalities = {feature.name: feature.spec.modality for feature in features}
    people = PeopleInStore(stored)
    planner = _Planner(dataset, store, stored, people, modalities, companions, summary)
    timed = (video for video in dataset.videos if not (isinstance(video, FollowedVideo) or _is_counted(video, stored)))
    dataset.time_videos(timed, reporter)
    groups: dict[tuple[str, ...], dict[str, int]] = {}
    for video in dataset.videos:
        try:
            pending, n_frames = planner.pending(video)
        except (StoreError, DataError) as error:
            summary.failed[video.name] = str(error)
            continue
        except OSError as error:
            summary.failed[video.name] = _unreadable(video, error)
            continue
        if pending:
            groups.setdefault(pending, {})[video.name] = n_frames
        else:
            summary.skipped.append(video.name)
    return ExtractionPlan(groups, {pending: len({modalities[name] for name in pending}) for pending in groups})


@dataclass(frozen=True)
class _Planner:
    """Compares videos with the features that are stored for them.

    Attributes:
        stored: attributes of complete videos, by feature and video.
        people: those of videos whose faces were followed.
        modalities: "vision", "audio" or "text", by feature.
        companions: sounds and transcripts.
        summary: receives the reasons of broken frames that are not read again.
    """

    dataset: Dataset
    store: FeatureStore
    stored: Mapping[str, Mapping[str, Mapping[str, Any]]]
    people: PeopleInStore
    modalities: Mapping[str, str]
    companions: Companions
    summary: Summary

    def pending(self, video: Video) -> tuple[tuple[str, ...], int]:
        """Features that a video lacks, and the number of its frames.

        Raises:
            StoreError: nothing can be stored under its name.
            DataError: two files are its transcript.
            OSError: its files cannot be listed.
        """
        frames = self.dataset.open(video)
        for person in frames.people() or (video.name,):
            check_name(person, "video")
        if isinstance(frames, FollowedFrames):
            return self._pending_people(video, frames), frames.size()
        if not any(video.name in videos for videos in self.stored.values()):
            return tuple(self.stored), frames.size()
        sources = self.companions.sources_of(video, frames, self.modalities.values())
        n_wanted = {"vision": len(frames.rows)}
        pending: list[str] = []
        broken: dict[str, None] = {}  # reasons, which the features may share
        for name, videos in self.stored.items():
            attrs, modality = videos.get(video.name, {}), self.modalities[name]
            is_same = sources[modality].matches(attrs) and has_its_clock(frames, attrs)
            if is_same and attrs["n_present"] >= n_wanted.get(modality, 0):
                continue
            reasons = _still_broken(self.store, name, frames) if is_same else []
            broken |= dict.fromkeys(reasons)
            if not reasons:
                pending.append(name)
        if not any(
            self.modalities[name] == "vision" for name in pending
        ):  # else they are reported when the video is read
            self.summary.broken_frames += broken
        return tuple(pending), len(frames.rows)

    def _pending_people(self, video: Video, frames: FollowedFrames) -> tuple[str, ...]:
        """Features that the people of a video lack."""
        sources = self.companions.sources_of(video, frames, self.modalities.values())
        return tuple(
            name for name in self.stored if self.people.of(name, video.name, sources[self.modalities[name]]) is None
        )


def _is_counted(video: Video, complete: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> bool:
    """True if all features have the video with one row for each picture of its file as it decodes."""
    return all(videos.get(video.name, {}).get(CLOCK) == DECODED for videos in complete.values())


def _still_broken(store: FeatureStore, feature: str, frames: FrameSource) -> list[str]:
    """Why the frames that a feature lacks are broken; empty if at least one of them can be read now.

    A good image may have replaced a broken one of the same size, and so with the same digest. While the images are as
    broken as before, the stored rows of the video are kept.
    """
    try:
        present = store.read(feature, frames.name).present
    except StoreError:
        return []
    if not frames.divisible:
        read = list(frames.read(0, len(frames.rows)))
        reasons = [frame.reason for frame in read if isinstance(frame, BrokenFrame)]
        return list(dict.fromkeys(reasons)) if len(read) - len(reasons) <= present.sum() else []
    reasons = []
    for index, row in enumerate(frames.rows.tolist()):
        if row >= len(present) or not present[row]:
            for frame in frames.read(index, index + 1):
                if not isinstance(frame, BrokenFrame):
                    return []
                reasons.append(frame.reason)
    return reasons


def _unreadable(video: Video, error: OSError) -> str:
    return f"{error.filename or video.path} cannot be read ({error.strerror})"


@dataclass(frozen=True)
class Reading:
    """Opens the videos to read, one by one, for features of one modality.

    Failures and assumed clocks go into the summary. So do videos that were finished in the meantime, for example by a
    worker that died afterwards; they count as skipped. A video with broken images is read again, because its broken
    images must be reported.
    """

    dataset: Dataset
    store: FeatureStore
    features: Sequence[str]
    summary: Summary
    on_frames: OnFrames
    companions: Companions
    decoder: Decoder = PROCESSOR

    def frame_sources(self, videos: Iterable[Video]) -> Iterator[FrameSource]:
        """Videos whose frames must be read."""
        for frames in self._opened(videos):
            n_frames = len(frames.rows)
            if not n_frames:
                self.summary.failed[frames.name] = frames.why_empty()
            elif not self._is_finished(frames, CurrentSource(frames.digest(), frames.has_content), n_wanted=n_frames):
                yield frames

    def followed_sources(self, videos: Iterable[Video]) -> Iterator[FrameSource]:
        """Videos whose faces must be followed."""
        for video in videos:
            frames = self.dataset.open(video)
            try:
                source = CurrentSource(frames.digest(), frames.has_content)
            except OSError as error:
                self.summary.failed[video.name] = _unreadable(video, error)
                continue
            assert isinstance(frames, FollowedFrames), "videos of this extraction are followed"
            frames = replace(frames, decoder=self.decoder)
            if any(stored_people(self.store, name, frames, source) is None for name in self.features):
                yield frames
            else:
                self.summary.skipped.append(video.name)
                self.on_frames(frames.size())

    def sound_sources(self, videos: Iterable[Video], follows: bool) -> Iterator[AudioSource]:
        """Videos, or their people, whose sound must be read.

        Args:
            follows: the videos are followed ones, and their people those that some feature of pictures has.
        """
        for frames, video in self._people(videos) if follows else self._with_clock(videos):
            try:
                sound = self.companions.sound_of(video)
                source = sound_source(frames, sound)
            except OSError as error:
                self.summary.failed[video.name] = in_words(error)
                continue
            if follows or not self._is_finished(frames, source):
                yield AudioSource(frames, sound, source.digest)

    def text_sources(self, videos: Iterable[Video], follows: bool) -> Iterator[TextSource]:
        """Videos, or their people, whose transcript must be read.

        Args:
            follows: see `sound_sources`.
        """
        for frames, video in self._people(videos) if follows else self._with_clock(videos):
            try:
                transcript = self.companions.transcript_of(video)
                source = text_source(frames, transcript)
            except DataError as error:  # two transcripts
                self.summary.failed[video.name] = str(error)
                continue
            except OSError as error:
                self.summary.failed[video.name] = in_words(error)
                continue
            if follows or not self._is_finished(frames, source):
                yield TextSource(frames, transcript, source.digest)

    def _people(self, videos: Iterable[Video]) -> Iterator[tuple[FrameSource, Video]]:
        """The people of followed videos, those that some feature of pictures has, and their videos."""
        stored = list(self.store.features())
        for video in videos:
            frames = self.dataset.open(video)
            if not isinstance(frames, FollowedFrames) or video.name in self.summary.failed:
                continue
            try:
                people = self._find_people(frames, stored)
            except OSError as error:
                self.summary.failed[video.name] = _unreadable(video, error)
                continue
            if people is None:
                self.summary.failed[video.name] = (
                    "its people are not known yet, and sound and text are stored for each of them. Add a --backbone of images"
                )
                continue
            for person in people or (video.name,):
                yield frames.as_person(person, people), video

    def _find_people(self, frames: FollowedFrames, stored: list[str]) -> tuple[str, ...] | None:
        """The people of a video that some feature has.

        Args:
            stored: names of features; the one that has this video comes first then, since it will have the next one, too.
        """
        source = CurrentSource(frames.digest(), frames.has_content)
        for position, name in enumerate(stored):
            people = stored_people(self.store, name, frames, source)
            if people is not None:
                stored.insert(0, stored.pop(position))
                return people
        return None

    def _with_clock(self, videos: Iterable[Video]) -> Iterator[tuple[FrameSource, FrameSource]]:
        """Opened videos, twice each, that have rows."""
        for frames in self._opened(videos):
            if frames.clock().n_frames:
                yield frames, frames
            else:
                self.summary.failed[frames.name] = frames.why_empty()

    def _opened(self, videos: Iterable[Video]) -> Iterator[FrameSource]:
        """Frames of the videos whose files can be listed and timed."""
        for video in videos:
            frames = self.dataset.open(video)
            if isinstance(frames, CropFrames | ClipFrames) and self.decoder is not frames.decoder:
                frames = replace(frames, decoder=self.decoder)  # sources of other packages decode as they like
            try:
                clock = frames.clock()
                frames.digest()
            except DataError as error:  # a clip's file, or a crop of number 0
                self.summary.failed[video.name] = str(error)
                continue
            except OSError as error:
                self.summary.failed[video.name] = _unreadable(video, error)
                continue
            if clock.warning:
                self.summary.warnings.append(f"{video.name}: {clock.warning}")
            yield frames

    def _is_finished(self, frames: FrameSource, source: CurrentSource, n_wanted: int = 0) -> bool:
        """True if all features of a video have been stored in the meantime.

        Args:
            source: its pictures, its sound or its transcript.
            n_wanted: rows that should be present.
        """
        try:
            stored = [self.store.video_attrs(name, frames.name) for name in self.features]
        except StoreError:  # reported by the writer if it persists
            return False
        n_frames = frames.clock().n_frames  # older versions counted otherwise
        for attrs in stored:
            if not source.matches(attrs) or attrs["n_present"] < n_wanted or attrs["n_frames"] != n_frames:
                return False
        self.summary.skipped.append(frames.name)
        self.on_frames(len(frames.rows))
        return True
