"""The videos of one part, and whether the features that are stored for a video are whole. Loads no torch."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from abaw.core.clock import CLOCK, DECODED, SAMPLED
from abaw.core.errors import DataError
from abaw.core.parts import parse_part, split_evenly
from abaw.datasets.dataset import Dataset
from abaw.datasets.frames import FrameSource
from abaw.datasets.sound_files import sound_digest
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
    """The pictures or the sound of a video as they are now.

    Args:
        digest: of the frames, or `sound_digest`.
        has_content: whether the files have the content that a stored video was made of; empty if that is unknown.
    """

    def __init__(self, digest: str, has_content: Callable[[str], bool]) -> None:
        self._digest = digest
        self._has_content = cache(has_content)  # may read whole files: once for all features

    def matches(self, attrs: Mapping[str, Any]) -> bool:
        """True if a stored video of a feature was made of it.

        Args:
            attrs: attributes of the video in the store; empty if it is not stored.
        """
        return attrs.get("source") == self._digest and self._has_content(attrs.get("content", ""))


def current_sources(frames: FrameSource, sound: Path | None) -> dict[str, CurrentSource]:
    """The pictures and the sound of a video, by modality; `sound` is the file that holds it."""
    return {
        "vision": CurrentSource(frames.digest(), frames.has_content),
        "audio": CurrentSource(sound_digest(frames.digest(), sound), partial(has_content, sound)),
    }


def has_its_clock(frames: FrameSource, attrs: Mapping[str, Any]) -> bool:
    """False if the video was stored with a number of rows that its file does not have, as older versions did."""
    if frames.file is None or attrs.get(CLOCK) == DECODED or attrs.get(SAMPLED) is True:
        return True
    try:
        return frames.clock().n_frames == attrs["n_frames"]
    except DataError:  # reported when it is read
        return True
