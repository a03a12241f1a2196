"""The videos of one part, and whether the features that are stored for a video are whole. Loads no torch."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from abaw.core.clock import CLOCK, DECODED, SAMPLED
from abaw.core.errors import DataError
from abaw.core.parts import parse_part, split_evenly
from abaw.datasets.dataset import Dataset
from abaw.datasets.frames import FrameSource, Video
from abaw.datasets.sound_files import sound_digest, sound_file_of
from abaw.datasets.transcripts import Transcripts, TranscriptSource, transcript_digest
from abaw.datasets.video_files import People
from abaw.media.file_content import has_content


def select_part(dataset: Dataset, part: str) -> Dataset:
    """The dataset with only the videos of one part, see `ExtractOptions.part`; the first part has all labels."""
    if not part:
        return dataset
    number, total = parse_part(part)
    sizes = {}
    for video in dataset.videos:
        try:
            sizes[video.name] = dataset.open(video).size()
        except OSError:  # reported by the process that has this part
            sizes[video.name] = 0
    selected = set(split_evenly(sizes, total)[number - 1])
    labels = dataset.labels if number == 1 else ()
    return replace(dataset, videos=tuple(video for video in dataset.videos if video.name in selected), labels=labels)


class CurrentSource:
    """The pictures, the sound or the transcript of a video as they are now.

    Args:
        digest: of the frames, `sound_digest` or `transcript_digest`.
        has_content: whether the files have the content that a stored video was made of; empty if that is unknown.
    """

    def __init__(self, digest: str, has_content: Callable[[str], bool]) -> None:
        self.digest = digest
        self._has_content = cache(has_content)  # may read whole files: once for all features

    def matches(self, attrs: Mapping[str, Any]) -> bool:
        """True if a stored video of a feature was made of it.

        Args:
            attrs: attributes of the video in the store; empty if it is not stored.
        """
        return attrs.get("source") == self.digest and self._has_content(attrs.get("content", ""))


@dataclass(frozen=True)
class Companions:
    """What a dataset has beside its pictures.

    Attributes:
        people: that `abaw prepare` detected.
        sounds: sound files, see `find_sound_files`.
        transcripts: of the videos.
    """

    people: People
    sounds: Mapping[str, Path]
    transcripts: Transcripts

    def sound_of(self, video: Video | FrameSource) -> Path | None:
        """The file with the sound of a video; None without one."""
        return sound_file_of(video, self.sounds, self.people)

    def transcript_of(self, video: Video | FrameSource) -> TranscriptSource | None:
        """The transcript of a video; None without one."""
        return self.transcripts.of(video, self.people)

    def sources_of(
        self, video: Video | FrameSource, frames: FrameSource, modalities: Collection[str]
    ) -> dict[str, CurrentSource]:
        """The pictures, the sound and the transcript of a video, by modality.

        Args:
            modalities: that are needed.

        Raises:
            DataError: two files are its transcript.
            OSError: a file cannot be read.
        """
        sources = {"vision": CurrentSource(frames.digest(), frames.has_content)}
        if "audio" in modalities:
            sources["audio"] = sound_source(frames, self.sound_of(video))
        if "text" in modalities:
            sources["text"] = text_source(frames, self.transcript_of(video))
        return sources


def sound_source(frames: FrameSource, sound: Path | None) -> CurrentSource:
    """The sound of a video, in a file."""
    return CurrentSource(sound_digest(frames.digest(), sound), partial(has_content, sound))


def text_source(frames: FrameSource, transcript: TranscriptSource | None) -> CurrentSource:
    """The transcript of a video."""
    is_same = transcript.has_content if transcript is not None else partial(has_content, None)
    return CurrentSource(transcript_digest(frames.digest(), transcript), is_same)


def has_its_clock(frames: FrameSource, attrs: Mapping[str, Any]) -> bool:
    """False if the video was stored with a number of rows that its file does not have, as older versions did."""
    if frames.file is None or attrs.get(CLOCK) == DECODED or attrs.get(SAMPLED) is True:
        return True
    try:
        return frames.clock().n_frames == attrs["n_frames"]
    except DataError:  # reported when it is read
        return True
