"""How far a prediction can be believed: predicted against found, bin by bin, and scores by how much was missing."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from abaw.core.tasks import Task
from abaw.evaluate.predictions import VideoPrediction, stack_labels
from abaw.evaluate.scores.metrics import decide, score

N_BINS = 10
MISSING_EDGES = (0.0, 0.05, 0.2, 0.5)  # lower ends of the ranges of missing share; the first holds 0 alone


@dataclass(frozen=True)
class Curve:
    """Predicted against found in equal bins of what was predicted; bins without a value are left out.

    Attributes:
        name: what it is of.
        predicted, found: (bins,) means.
        counts: (bins,) values in each bin.
        error: mean distance of the two over all values; for classes the expected calibration error (Guo et al. 2017).
    """

    name: str
    predicted: NDArray[np.float64]
    found: NDArray[np.float64]
    counts: NDArray[np.int64]
    error: float


def calibration(task: Task, outputs: NDArray, labels: NDArray) -> list[Curve]:
    """Calibration of a plain task.

    Of classes: the probability of the largest one against how often it is right; of action units, all together: the
    probability against how often a unit is on; of valence and arousal, each: the prediction against the label.

    Args:
        outputs: (rows, outputs) as a head gives them.
        labels: (rows, columns) as published.
    """
    from scipy.special import expit, softmax  # a quarter of a second of start-up

    valid = task.valid(labels)
    if task.kind == "classes":
        top = softmax(outputs.astype(np.float64), axis=1).max(axis=1)
        right = decide(task, outputs)[:, 0] == labels[:, 0]
        return [_curve("top class", top[valid[:, 0]], right[valid[:, 0]], 0, 1)]
    if task.kind == "binary":
        return [_curve("all units", expit(outputs.astype(np.float64))[valid], labels[valid] == 1, 0, 1)]
    answers = decide(task, outputs)
    return [
        _curve(name, answers[valid[:, i], i], labels[valid[:, i], i], task.low, task.high)
        for i, name in enumerate(task.outputs)
    ]


def _curve(name: str, predicted: NDArray, found: NDArray, low: float, high: float) -> Curve:
    predicted, found = predicted.astype(np.float64), found.astype(np.float64)
    places = np.clip(((predicted - low) / (high - low) * N_BINS).astype(np.int64), 0, N_BINS - 1)
    counts = np.bincount(places, minlength=N_BINS)
    kept = counts > 0
    means = [np.bincount(places, values, N_BINS)[kept] / counts[kept] for values in (predicted, found)]
    distance = np.abs(means[0] - means[1])
    error = float((distance * counts[kept]).sum() / counts.sum()) if kept.any() else 0.0
    return Curve(name, means[0], means[1], counts[kept], error)


def row_errors(task: Task, outputs: NDArray, labels: NDArray) -> NDArray[np.float64]:
    """(rows,) how wrong each row of a plain task is; NaN where it has no valid label.

    Of valence and arousal the mean distance from the label, of classes 0 or 1, of action units the share decided wrong.

    Args:
        outputs: (rows, outputs) as a head gives them.
        labels: (rows, columns) as published.
    """
    answers, valid = decide(task, outputs), task.valid(labels)
    wrong = np.abs(answers - labels) if task.kind == "regression" else answers != labels
    counts = valid.sum(axis=1)
    sums = np.where(valid, wrong, 0).sum(axis=1, dtype=np.float64)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def missing_share(found: VideoPrediction) -> float:
    """Share of a video's frames that have no crop."""
    return float((~found.present).mean()) if len(found.present) else 0.0


@dataclass(frozen=True)
class MissingRange:
    """Score of the videos whose share of frames without a crop lies in a range.

    Attributes:
        name: the range in words.
        n_videos, n_frames: how many; of the frames those with a valid label.
        score: the task's measure, pooled over these videos; NaN without a valid label.
    """

    name: str
    n_videos: int
    n_frames: int
    score: float


def scores_by_missing(task: Task, predictions: Mapping[str, VideoPrediction]) -> list[MissingRange]:
    """The measure of a task over videos of similar shares of missing frames; ranges without a video have NaN."""
    videos = list(predictions.values())
    places = np.searchsorted(MISSING_EDGES, [missing_share(found) for found in videos], side="left")
    names = ["none", *(f"up to {high:.0%}" for high in MISSING_EDGES[1:]), f"over {MISSING_EDGES[-1]:.0%}"]
    ranges = []
    for place, name in enumerate(names):
        own = [found for found, at in zip(videos, places, strict=True) if at == place]
        if not own:
            ranges.append(MissingRange(name, 0, 0, float("nan")))
            continue
        outputs, labels, _ = stack_labels(own)
        pooled = score(task, outputs, labels)
        ranges.append(MissingRange(name, len(own), pooled.n_frames, pooled.score if pooled.n_frames else float("nan")))
    return ranges


def part_of(found: VideoPrediction, given: slice, wanted: slice) -> VideoPrediction:
    """What a video has of a plain task in a `multi` one."""
    doubles = found.doubles.columns(wanted) if found.doubles is not None else None
    return VideoPrediction(found.outputs[:, given], found.labels[:, wanted], found.present, found.fps, doubles)
