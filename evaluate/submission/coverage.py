"""What a submission answers of each video: rows that were wanted, and rows that had to be filled."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from abaw.core.clock import LENGTH_FROM_CROPS
from abaw.evaluate.submission.formats import Places

Known = Sequence[Mapping[str, Mapping[str, Any]]]  # for each feature the attributes of its videos


@dataclass(frozen=True)
class Answered:
    """What was answered of one video.

    Attributes:
        name: of the video.
        n_rows: that were wanted.
        n_filled: of these, rows that no run has a feature of; they were filled from other frames.
        last_frame: the highest frame number that was wanted.
        n_frames: of the video in the store; 0 where it is not there.
        length_from_crops: that number is the last crop's, since no video file told it.
    """

    name: str
    n_rows: int
    n_filled: int
    last_frame: int
    n_frames: int
    length_from_crops: bool = False


def frames_in_store(known: Known, videos: Iterable[str]) -> dict[str, int]:
    """Frames of each video as the store has them; 0 of those that it does not have."""
    return {video: max(int(found.get(video, {}).get("n_frames", 0)) for found in known) for video in videos}


def count_answered(known: Known, has_any: Mapping[str, NDArray], places: Places | None) -> tuple[Answered, ...]:
    """Counts for each video.

    Args:
        has_any: by video, its rows up to the last one that is wanted: (rows,) bool, a run has a feature of it.
        places: of the rows that are wanted; None for all of them.
    """
    if places is None:
        n_wanted = [len(has) for has in has_any.values()]
        n_filled = [int((~has).sum()) for has in has_any.values()]
    else:
        lacks = ~pick_rows(has_any, places)
        n_wanted = np.bincount(places.index, minlength=len(has_any)).tolist()
        n_filled = np.bincount(places.index[lacks], minlength=len(has_any)).tolist()
    n_frames = frames_in_store(known, has_any)
    found = zip(has_any.items(), n_wanted, n_filled, strict=True)
    return tuple(
        Answered(video, wanted, filled, len(has), n_frames[video], _is_guessed(known, video))
        for (video, has), wanted, filled in found
    )


def _is_guessed(known: Known, video: str) -> bool:
    """True if no feature of a video was made with its video file at hand."""
    own = [found[video] for found in known if video in found]
    return bool(own) and all(attrs.get(LENGTH_FROM_CROPS) is True for attrs in own)


def pick_rows(by_video: Mapping[str, NDArray], places: Places) -> NDArray:
    """The rows of a file in its order, from the rows of its videos."""
    found = [by_video[video] for video in places.videos]
    starts = np.cumsum([0, *map(len, found)])
    return np.concatenate(found)[starts[places.index] + places.rows]
