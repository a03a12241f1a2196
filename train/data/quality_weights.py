"""Weights of frames in a loss by the quality of their crops."""

import numpy as np
from numpy.typing import NDArray

from abaw.store import FeatureStore
from abaw.store.in_turn import VideosInTurn
from abaw.train.data.feature_clocks import is_spread, rows_in_time
from abaw.train.data.table import Table


def quality_weights(store: FeatureStore, table: Table, counted: NDArray[np.bool_]) -> NDArray[np.float32] | None:
    """(rows,) the quality of a frame's crop over the mean quality; None if no frame that counts has a known one.

    Frames without a crop, and those whose crop has an unknown quality, weigh 1, so that the mean over the frames that
    count is 1. Of several visual features the lowest quality counts.

    Args:
        table: with the features that a training takes.
        counted: (rows,) bool, the frame has a label and a feature.
    """
    quality = np.full(len(table.labels), np.inf, dtype=np.float64)
    for feature in table.masks:
        if store.feature_attrs(feature)["spec"].get("modality", "vision") != "vision":
            continue
        known, turn = store.videos(feature), VideosInTurn(store, feature, table.videos)
        for number, video in enumerate(table.videos):
            stored = turn.read_quality(video) if video in known else None
            if stored is None:
                continue
            rows = table.rows(number)
            n_rows = rows.stop - rows.start
            if is_spread(known[video], n_rows):
                stored = stored[rows_in_time(len(stored), n_rows)]
            of_video = quality[rows][: len(stored)]
            np.minimum(of_video, stored, out=of_video)
    is_known = np.isfinite(quality) & table.has_face
    mean = quality[is_known & counted].mean() if (is_known & counted).any() else 0.0
    if not mean:
        return None
    return (np.where(is_known, quality, mean) / mean).astype(np.float32)
