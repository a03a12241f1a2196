"""Tables of features and labels, built from arrays."""

from collections.abc import Mapping, Sequence

import numpy as np

from abaw.core.tasks import Task
from abaw.train.data.table import Table


def build_table(
    task: Task,
    lengths: Sequence[int],
    values: Mapping[str, np.ndarray],
    masks: Mapping[str, np.ndarray] | None = None,
    labels: np.ndarray | None = None,
    has_face: np.ndarray | None = None,
    n_synthetic: int = 0,
) -> Table:
    """Make a table of the videos `v0`, `v1`, ... at 25 frames a second.

    Args:
        lengths: rows of each video.
        values: (rows, *shape) by feature.
        masks: (rows,) bool by feature; by default all rows are present.
        labels: (rows, columns); by default all are invalid.
        has_face: (rows,) bool; by default the rows with any feature.
        n_synthetic: the last videos that are synthetic.
    """
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    n_rows, n_videos = int(starts[-1]), len(lengths)
    masks = masks or {feature: np.ones(n_rows, dtype=bool) for feature in values}
    has_feature = np.logical_or.reduce(list(masks.values()))
    labels = np.tile(task.invalid_row, (n_rows, 1)) if labels is None else labels
    labels = labels.astype(np.float32)
    return Table(
        task=task,
        videos=tuple(f"v{i}" for i in range(n_videos)),
        starts=starts,
        values={feature: array.astype(np.float32) for feature, array in values.items()},
        masks=masks,
        has_feature=has_feature,
        has_face=has_feature if has_face is None else has_face,
        labels=labels,
        valid=task.valid(labels),
        fps=np.full(n_videos, 25.0),
        synthetic=np.arange(n_videos) >= n_videos - n_synthetic,
    )
