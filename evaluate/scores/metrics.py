"""The official measures, pooled over all valid frames of a split, in float64.

A class or action unit that never occurs, in labels or predictions, counts as F1 0. A constant has CCC 0. Rows are
frames, images or videos, whichever a task's labels belong to.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from abaw.core.tasks import Task

BY_ACCURACY = ("vgaf",)  # tasks of classes that are scored by accuracy, the others by macro F1


@dataclass(frozen=True)
class Score:
    """A task's measure and what it is made of.

    Attributes:
        score: the measure to maximise.
        parts: by output, CCC of valence and arousal, or F1 of each class or action unit.
        support: by output, how many labels count: valid values, or valid values of that class.
        by_task: the measure of each plain task in the task; of a `multi` task `score` is their sum.
        n_frames: rows with at least one valid label.
    """

    score: float
    parts: dict[str, float]
    support: dict[str, int]
    by_task: dict[str, float]
    n_frames: int


def ccc(predictions: NDArray, labels: NDArray) -> float:
    """Lin's concordance correlation coefficient, 2 s_xy / (s_x^2 + s_y^2 + (m_x - m_y)^2), population moments.

    Args:
        predictions, labels: (n,) float. Fewer than two values, or two equal constants, give 0.
    """
    x, y = predictions.astype(np.float64), labels.astype(np.float64)
    # asked of the values themselves: the rounded mean of equal values may differ from them
    if len(y) < 2 or (np.ptp(x) == 0 and np.ptp(y) == 0):
        return 0.0
    covariance = ((x - x.mean()) * (y - y.mean())).mean()
    spread = x.var() + y.var() + (x.mean() - y.mean()) ** 2
    return float(2 * covariance / spread) if spread > 0 else 0.0


def f1(predicted: NDArray[np.bool_], actual: NDArray[np.bool_]) -> float:
    """F1 of the positive class, 2 TP / (2 TP + FP + FN); 0 if it never occurs."""
    hits = int((predicted & actual).sum())
    total = int(predicted.sum()) + int(actual.sum())
    return 2 * hits / total if total else 0.0


def accuracy(predicted: NDArray, actual: NDArray) -> float:
    """Share of answers that are right, (n,) each; 0 if there is none."""
    return float((predicted == actual).mean()) if len(actual) else 0.0


def decide(task: Task, outputs: NDArray) -> NDArray:
    """What outputs say in the form of labels: (n, columns).

    Valence and arousal are clipped to [-1, 1]; the class is the largest logit; an action unit is on where its logit
    is above 0, a probability of one half. A `multi` task has the answers of its parts side by side.

    Args:
        outputs: (n, outputs) as a head gives them.
    """
    if task.kind == "multi":
        return np.concatenate([decide(part, outputs[:, given]) for part, given, _ in task.each()], axis=1)
    if task.kind == "regression":
        return np.clip(outputs, task.low, task.high)
    if task.kind == "classes":
        return outputs.argmax(axis=1)[:, None]
    return outputs > 0


def score(task: Task, outputs: NDArray, labels: NDArray) -> Score:
    """Score outputs against labels.

    Args:
        outputs: (n, outputs) as a head gives them.
        labels: (n, columns) as published; invalid values are left out one by one.
    """
    parts: dict[str, float] = {}
    support: dict[str, int] = {}
    by_task: dict[str, float] = {}
    for part, given, wanted in task.each():
        answers, actual = decide(part, outputs[:, given]), labels[:, wanted]
        valid = part.valid(actual)
        measures, counts = _measure_outputs(part, answers, actual, valid)
        parts |= measures
        support |= counts
        if part.name in BY_ACCURACY:
            by_task[part.name] = accuracy(answers[valid], actual[valid])
        else:
            by_task[part.name] = float(np.mean(list(measures.values())))
    n_frames = int(task.valid(labels).any(axis=1).sum())
    return Score(sum(by_task.values()), parts, support, by_task, n_frames)


def _measure_outputs(
    task: Task, answers: NDArray, labels: NDArray, valid: NDArray[np.bool_]
) -> tuple[dict[str, float], dict[str, int]]:
    """Measure and support of each output of a plain task; all arrays are (n, columns)."""
    measures: dict[str, float] = {}
    support: dict[str, int] = {}
    for index, name in enumerate(task.outputs):
        column = 0 if task.kind == "classes" else index
        counted = valid[:, column]
        given, actual = answers[counted, column], labels[counted, column]
        if task.kind == "regression":
            measures[name], support[name] = ccc(given, actual), len(actual)
        else:
            wanted = index if task.kind == "classes" else 1
            measures[name], support[name] = f1(given == wanted, actual == wanted), int((actual == wanted).sum())
    return measures, support
