"""The videos of one part, and whether the features that are stored for a video are whole. Loads no torch."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from abaw.core.clock import CLOCK, DECODED, SAMPLED
from abaw.core.errors import DataError
from abaw.core.parts import parse_part, split_evenly
from abaw.datasets.dataset import Dataset
from abaw.datasets.frames import FrameSource


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


def has_its_clock(frames: FrameSource, attrs: Mapping[str, Any]) -> bool:
    """False if the video was stored with a number of rows that its file does not have, as older versions did."""
    if frames.file is None or attrs.get(CLOCK) == DECODED or attrs.get(SAMPLED) is True:
        return True
    try:
        return frames.clock().n_frames == attrs["n_frames"]
    except DataError:  # reported when it is read
        return True
