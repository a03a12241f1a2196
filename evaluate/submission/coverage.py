"""Coverage of a submission: for each video, how many rows were predicted and how many of them had to be filled."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from abaw.core.clock import LENGTH_FROM_CROPS
from abaw.evaluate.submission.formats import FrameRows

Known = Sequence[Mapping[str, Mapping[str, Any]]]  # for each feature, the attributes of its videos in the store


@dataclass(frozen=True)
class VideoCoverage:
    """The rows of one video in a submission.

    Attributes:
        name: name of the video.
        n_rows: rows in the submission.
        n_filled: rows without a feature in any run, which were filled from other frames.
        last_frame: the highest frame number in the submission.
        n_frames: frames of the video in the store; 0 if it is missing there.
        length_from_crops: `n_frames` is the number of the last crop, as there was no video file.
    """

    name: str
    n_rows: int
    n_filled: int
    last_frame: int
    n_frames: int
    length_from_crops: bool = False


def frames_in_store(known: Known, videos: Iterable[str]) -> dict[str, int]:
    """Frames of each video in the store; 0 if it is missing."""
    return {video: max(int(attrs.get(video, {}).get("n_frames", 0)) for attrs in known) for video in videos}


def count_rows(
    known: Known, has_feature: Mapping[str, NDArray[np.bool_]], frame_rows: FrameRows | None
) -> tuple[VideoCoverage, ...]:
    """The coverage of each video.

    Args:
        has_feature: by video, for its rows up to the last one in the submission: (rows,) bool, a run has a feature.
        frame_rows: rows of the submission; None for all rows.
    """
    if frame_rows is None:
        n_rows = [len(rows) for rows in has_feature.values()]
        n_filled = [int((~rows).sum()) for rows in has_feature.values()]
    else:
        is_filled = ~pick_rows(has_feature, frame_rows)
        n_rows = np.bincount(frame_rows.index, minlength=len(has_feature)).tolist()
        n_filled = np.bincount(frame_rows.index[is_filled], minlength=len(has_feature)).tolist()
    n_frames = frames_in_store(known, has_feature)
    return tuple(
        VideoCoverage(video, n, filled, len(rows), n_frames[video], _is_guessed(known, video))
        for (video, rows), n, filled in zip(has_feature.items(), n_rows, n_filled, strict=True)
    )


def _is_guessed(known: Known, video: str) -> bool:
    """True if the video file was missing for every feature of a video."""
    video_attrs = [attrs[video] for attrs in known if video in attrs]
    return bool(video_attrs) and all(attrs.get(LENGTH_FROM_CROPS) is True for attrs in video_attrs)


def pick_rows(by_video: Mapping[str, NDArray], frame_rows: FrameRows) -> NDArray:
    """The rows of a file in its order, from the rows of its videos."""
    values = [by_video[video] for video in frame_rows.videos]
    starts = np.cumsum([0, *map(len, values)])
    return np.concatenate(values)[starts[frame_rows.index] + frame_rows.rows]
