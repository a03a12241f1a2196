"""Whether features of a video fit into one table: row i of each must be the same moment.

Features whose rows are spread over a whole clip fit with any numbers of rows, such as 5 spectrograms and 75 pictures:
each row of the table takes the stored row of its time.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from abaw.core.clock import LENGTH_FROM_CROPS, SAMPLED
from abaw.core.errors import UsageError
from abaw.core.tasks import Task
from abaw.store import FeatureStore

CLOCK_TOLERANCE = (0.1, 0.01)  # relative: numbers of rows, as one feature may end early, and frame rates


def is_spread(attrs: Mapping[str, Any], n_rows: int) -> bool:
    """True if the rows of a feature cover a whole clip that has `n_rows` rows in the table, far more than the feature.

    Args:
        attrs: attributes of the video in the store.
    """
    return bool(attrs.get(SAMPLED)) and _is_longer(int(attrs["n_frames"]), n_rows)


def rows_in_time(n_stored: int, n_rows: int) -> NDArray[np.int64]:
    """(n_rows,) the stored row that is shown at the middle of each of `n_rows` equal parts of a clip.

    Stored row j is shown in part j of `n_stored` equal parts: with 5 stored rows and 75 rows, each is repeated 15 times.
    """
    return (2 * np.arange(n_rows) + 1) * n_stored // (2 * n_rows)


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
        if attributes[feature].get(SAMPLED) and attributes[other].get(SAMPLED):  # both cover the whole clip
            continue
        shorter = feature if rows < other_rows else other
        if attributes[shorter].get(LENGTH_FROM_CROPS):  # its frame rate is assumed: rows are frames in both
            continue
        if _is_longer(*sorted((rows, other_rows))) and abs(fps - other_fps) > CLOCK_TOLERANCE[1] * max(fps, other_fps):
            raise UsageError(
                f"Row i of {feature!r} and of {other!r} are not the same moment: video {video!r} has {rows} rows at {fps:g} a "
                f"second in the one, {other_rows} at {other_fps:g} in the other. Import or extract both with equal numbers "
                "of rows; if a frame rate was only assumed, pass it with --fps, or extract again next to the video files."
            )


def _is_longer(fewer: int, more: int) -> bool:
    return more - fewer > CLOCK_TOLERANCE[0] * more
