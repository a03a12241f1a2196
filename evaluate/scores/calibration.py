"""Calibration, predicted against actual values in bins; errors of rows; scores by the share of missing frames."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from abaw.core.tasks import Task
from abaw.evaluate.predictions import VideoPrediction, stack_labels
from abaw.evaluate.scores.metrics import decide, score

N_BINS = 10
MISSING_EDGES = (0.0, 0.05, 0.2, 0.5)  # lower ends of the ranges of missing shares; the first contains only 0


@dataclass(frozen=True)
class Curve:
    """Predicted against actual values in equal bins of the predicted ones; empty bins are left out.

    Attributes:
        name: name of the outputs.
        predicted, actual: (bins,) means.
        counts: (bins,) values in each bin.
        error: mean distance of the two over all values; for classes the expected calibration error (Guo et al. 2017).
    """

    name: str
    predicted: NDArray[np.float64]
    actual: NDArray[np.float64]
    counts: NDArray[np.int64]
    error: float


def calibration(task: Task, outputs: NDArray, labels: NDArray) -> list[Curve]:
    """Calibration of a plain task.

    For classes, the probability of the likeliest class against how often it is right. For binary outputs, pooled,
    the probability against how often they are on. For real numbers, each output's prediction against the label.

    Unlike `sklearn.calibration.calibration_curve` it also handles real numbers, counts the values in each bin, and accepts
    empty input.

    Args:
        outputs: (rows, outputs) of a head.
        labels: (rows, columns) as published.
    """
    from scipy.special import expit, softmax  # takes a quarter of a second to import

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


def _curve(name: str, predicted: NDArray, actual: NDArray, low: float, high: float) -> Curve:
    predicted, actual = predicted.astype(np.float64), actual.astype(np.float64)
    bins = np.clip(((predicted - low) / (high - low) * N_BINS).astype(np.int64), 0, N_BINS - 1)
    counts = np.bincount(bins, minlength=N_BINS)
    filled = counts > 0
    means = [np.bincount(bins, values, N_BINS)[filled] / counts[filled] for values in (predicted, actual)]
    distance = np.abs(means[0] - means[1])
    error = float((distance * counts[filled]).sum() / counts.sum()) if filled.any() else 0.0
    return Curve(name, means[0], means[1], counts[filled], error)


def row_errors(task: Task, outputs: NDArray, labels: NDArray) -> NDArray[np.float64]:
    """(rows,) error of each row of a plain task; NaN where it has no valid label.

    For real numbers, the mean distance from the label; for classes, 0 or 1; for binary outputs, the share of errors.

    Args:
        outputs: (rows, outputs) of a head.
        labels: (rows, columns) as published.
    """
    answers, valid = decide(task, outputs), task.valid(labels)
    errors = np.abs(answers - labels) if task.kind == "regression" else answers != labels
    counts = valid.sum(axis=1)
    sums = np.where(valid, errors, 0).sum(axis=1, dtype=np.float64)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def missing_share(prediction: VideoPrediction) -> float:
    """Share of a video's frames that have no crop."""
    return float((~prediction.present).mean()) if len(prediction.present) else 0.0


@dataclass(frozen=True)
class MissingRange:
    """Score of the videos whose share of frames without a crop lies in a range.

    Attributes:
        name: the range in words.
        n_videos: number of videos in the range.
        n_frames: their labelled rows.
        score: the task's measure, pooled over these videos; NaN without a valid label.
    """

    name: str
    n_videos: int
    n_frames: int
    score: float


def scores_by_missing(task: Task, predictions: Mapping[str, VideoPrediction]) -> list[MissingRange]:
    """The measure of a task over videos of similar shares of missing frames; ranges without a video have NaN."""
    videos = list(predictions.values())
    range_of = np.searchsorted(MISSING_EDGES, [missing_share(video) for video in videos], side="left")
    names = ["none", *(f"up to {high:.0%}" for high in MISSING_EDGES[1:]), f"over {MISSING_EDGES[-1]:.0%}"]
    ranges = []
    for number, name in enumerate(names):
        members = [video for video, i in zip(videos, range_of, strict=True) if i == number]
        if not members:
            ranges.append(MissingRange(name, 0, 0, float("nan")))
            continue
        outputs, labels, _ = stack_labels(members)
        pooled = score(task, outputs, labels)
        ranges.append(
            MissingRange(name, len(members), pooled.n_frames, pooled.score if pooled.n_frames else float("nan"))
        )
    return ranges


def part_of(video: VideoPrediction, outputs: slice, columns: slice) -> VideoPrediction:
    """The prediction of one plain task of a `multi` task; the slices are those of `Task.each`."""
    doubles = video.doubles.columns(columns) if video.doubles is not None else None
    outputs_labels = video.outputs[:, outputs], video.labels[:, columns]
    return VideoPrediction(*outputs_labels, video.present, video.fps, doubles, person=video.person)
