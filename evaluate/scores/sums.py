"""The sums over frames that a measure follows from, and the measures that follow from them, many at once in float64."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from abaw.core.tasks import Task
from abaw.evaluate.predictions import VideoPrediction
from abaw.evaluate.scores.metrics import BY_ACCURACY, decide

# a spread below this share of the mean square is what rounding leaves of equal values
ROUNDING = 1e-12
N_MOMENTS, N_COUNTS = 6, 3  # sums that an output needs: n, x, y, xx, yy, xy; or hits, predicted, actual

Predictions = Mapping[str, VideoPrediction]


def measure_names(task: Task) -> tuple[str, ...]:
    """Names of what is measured: `score`, the parts of a `multi` task, and each output."""
    return ("score", *(part.name for part in task.parts), *task.outputs)


def label_means(task: Task, predictions: Predictions) -> NDArray[np.float64]:
    """(columns,) mean of the valid labels. Moments about it lose no digits; CCC does not mind a common shift."""
    totals, counts = np.zeros(len(task.columns)), np.zeros(len(task.columns))
    for found in (video.by_label() for video in predictions.values()):
        valid = task.valid(found.labels)
        totals += np.where(valid, found.labels, 0).sum(axis=0, dtype=np.float64)
        counts += valid.sum(axis=0)
    return totals / np.maximum(counts, 1)


def sums_of(task: Task, predictions: Predictions, shifts: NDArray[np.float64]) -> NDArray[np.float64]:
    """(units, width) sums over the frames of each labelled video, or what each labelled image or video adds to them."""
    found = []
    for video in (given.by_label() for given in predictions.values()):
        labelled = task.valid(video.labels).any(axis=1)
        if labelled.any():
            rows = _addends(task, video.outputs[labelled], video.labels[labelled], shifts)
            found.append(rows.sum(axis=0, keepdims=True) if task.level == "frame" else rows)
    width = sum(
        (N_MOMENTS if part.kind == "regression" else N_COUNTS) * len(part.outputs) for part, _, _ in task.each()
    )
    return np.concatenate([np.zeros((0, width)), *found])


def _addends(task: Task, outputs: NDArray, labels: NDArray, shifts: NDArray[np.float64]) -> NDArray[np.float64]:
    """(rows, width): for every output its `N_MOMENTS` or `N_COUNTS` addends, 0 where the label is not valid."""
    blocks = []
    for part, given, wanted in task.each():
        answers, actual = decide(part, outputs[:, given]), labels[:, wanted]
        valid = part.valid(actual)
        if part.kind == "regression":
            x, y = (np.where(valid, values - shifts[wanted], 0) for values in (answers, actual))
            found = [valid, x, y, x * x, y * y, x * y]
        else:
            positive = np.arange(len(part.outputs)) if part.kind == "classes" else 1
            said, true = (answers == positive) & valid, (actual == positive) & valid
            found = [said & true, said, true]
        blocks.append(np.stack(found, axis=-1, dtype=np.float64).reshape(len(outputs), -1))
    return np.concatenate(blocks, axis=1)


def measures_of(task: Task, totals: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, measures) in the order of `measure_names`, from (n, width) sums."""
    parts, wholes, start = [], [], 0
    for part, _, _ in task.each():
        width = N_MOMENTS if part.kind == "regression" else N_COUNTS
        stop = start + width * len(part.outputs)
        block = totals[:, start:stop].reshape(len(totals), -1, width)
        start = stop
        values = _ccc(block) if part.kind == "regression" else _f1(block)
        parts.append(values)
        wholes.append(_accuracy(block) if part.name in BY_ACCURACY else values.mean(axis=1))
    by_task = np.stack(wholes, axis=1)
    return np.concatenate([by_task.sum(axis=1, keepdims=True), *([by_task] if task.parts else []), *parts], axis=1)


def _ccc(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, outputs) of (n, outputs, 6); see `abaw.evaluate.scores.metrics.ccc`."""
    n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    n = np.maximum(n, 1)
    covariance = xy / n - x / n * (y / n)
    spread = xx / n + yy / n - 2 * (x / n) * (y / n)  # variances and squared distance of means, summed
    return ratio(2 * covariance, np.where(spread > ROUNDING * (xx + yy) / n, spread, 0))


def _f1(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, outputs) of (n, outputs, 3)."""
    return ratio(2 * sums[..., 0], sums[..., 1] + sums[..., 2])


def _accuracy(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) of (n, classes, 3)."""
    return ratio(sums[..., 0].sum(axis=1), sums[..., 2].sum(axis=1))


def ratio(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    """`above / below`, 0 where `below` is 0."""
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)
