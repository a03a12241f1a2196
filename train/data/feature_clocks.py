"""Checks that features of a video fit into one table: row i of each must be the same moment."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from abaw.core.clock import LENGTH_FROM_CROPS, SAMPLED
from abaw.core.errors import UsageError
from abaw.core.tasks import Task
from abaw.store import FeatureStore

CLOCK_TOLERANCE = (0.1, 0.01)  # relative: numbers of rows, as one feature may end early, and frame rates


def check_clocks(store: FeatureStore, task: Task, video: str, attributes: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise a UsageError if rows of a video's features are different moments.

    Args:
        attributes: attributes of the video by feature.
    """
    for feature, attrs in attributes.items():
        if task.level == "frame" and attrs.get(SAMPLED):
            raise UsageError(
                f"Feature {feature!r} of video {video!r} in {store.path} has {attrs['n_frames']} rows spread over the whole "
                f"clip, and {task.name} labels its frames. Import one row per frame, or choose a task of whole clips."
            )
    rates = {feature: (int(attrs["n_frames"]), float(attrs["fps"])) for feature, attrs in attributes.items()}
    for feature, other in pairwise(rates):
        (rows, fps), (other_rows, other_fps) = rates[feature], rates[other]
        shorter = feature if rows < other_rows else other
        if attributes[shorter].get(LENGTH_FROM_CROPS):  # its frame rate is assumed: rows are frames in both
            continue
        is_longer = abs(rows - other_rows) > CLOCK_TOLERANCE[0] * max(rows, other_rows)
        if is_longer and abs(fps - other_fps) > CLOCK_TOLERANCE[1] * max(fps, other_fps):
            raise UsageError(
                f"Row i of {feature!r} and of {other!r} are not the same moment: video {video!r} has {rows} rows at {fps:g} a "
                f"second in the one, {other_rows} at {other_fps:g} in the other. Import or extract both with equal numbers "
                "of rows; if a frame rate was only assumed, pass it with --fps, or extract again next to the video files."
            )
