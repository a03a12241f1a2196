"""Whether features of a video fit into one table: row i of each has to be the same moment."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from abaw.core.clock import LENGTH_FROM_CROPS, SAMPLED
from abaw.core.errors import UsageError
from abaw.core.tasks import Task
from abaw.store import FeatureStore

CLOCK_TOLERANCE = (0.1, 0.01)  # of numbers of rows, as one feature may end early, and of frame rates


def check_clocks(store: FeatureStore, task: Task, video: str, found: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse features of a video that count other moments; `found` are its attributes by feature."""
    for feature, attrs in found.items():
        if task.level == "frame" and attrs.get(SAMPLED):
            raise UsageError(
                f"Feature {feature!r} of video {video!r} in {store.path} has {attrs['n_frames']} rows spread over the whole "
                f"clip, and {task.name} labels its frames. Import a row for each frame, or take a task about whole clips."
            )
    rates = {feature: (int(attrs["n_frames"]), float(attrs["fps"])) for feature, attrs in found.items()}
    for one, other in pairwise(rates):
        (rows, fps), (other_rows, other_fps) = rates[one], rates[other]
        shorter = one if rows < other_rows else other
        if found[shorter].get(LENGTH_FROM_CROPS):  # and the frame rate is assumed: rows are frames in both
            continue
        is_longer = abs(rows - other_rows) > CLOCK_TOLERANCE[0] * max(rows, other_rows)
        if is_longer and abs(fps - other_fps) > CLOCK_TOLERANCE[1] * max(fps, other_fps):
            raise UsageError(
                f"Row i of {one!r} and of {other!r} are not the same moment: video {video!r} has {rows} rows at {fps:g} a "
                f"second in the one, {other_rows} at {other_fps:g} in the other. Import or extract both with equal numbers "
                "of rows; where a frame rate is merely assumed, say it with --fps, or extract again beside the video files."
            )
