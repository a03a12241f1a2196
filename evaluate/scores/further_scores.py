"""Further scores that a task shows next to its measure: other measures, and the average precision."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from abaw.core.task_files import AP, MEASURES
from abaw.core.tasks import Task
from abaw.evaluate.scores.metrics import Score, score

THRESHOLDS = np.arange(0, 1, 0.001)


def score_with_further(task: Task, outputs: NDArray, labels: NDArray) -> Score:
    """Like `abaw.evaluate.scores.metrics.score`, with the further scores of the task."""
    return replace(score(task, outputs, labels), also=further_scores(task, outputs, labels))


def further_scores(task: Task, outputs: NDArray, labels: NDArray) -> dict[str, float]:
    """The scores that `Measure.also` of a task names, by name.

    Args:
        outputs: (n, outputs) of a head.
        labels: (n, columns) as published.
    """
    scores = {}
    for name in task.measure.also:
        if name == AP:
            scores[name] = mean_precision(task, outputs, labels)
        else:
            of_output, pooled = MEASURES[task.kind][name]
            other = replace(task, measure=replace(task.measure, of_output=of_output, pooled=pooled, also=()))
            scores[name] = score(other, outputs, labels).score
    return scores


def mean_precision(task: Task, outputs: NDArray, labels: NDArray) -> float:
    """The average precision of the second of two classes, or its mean over binary outputs; NaN without a positive label."""
    wide = outputs.astype(np.float64)
    if task.kind == "classes":
        wide, labels = wide[:, 1:] - wide[:, :1], labels[:, :1]  # the sigmoid of it is the softmax of the second
    valid = task.valid(labels)
    with np.errstate(over="ignore"):
        probabilities = 1 / (1 + np.exp(-wide))
    columns = range(wide.shape[1])
    return float(
        np.mean([average_precision(probabilities[valid[:, i], i], labels[valid[:, i], i] == 1) for i in columns])
    )


def average_precision(probabilities: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """The area under precision over recall by trapezoids, at the thresholds 0, .001, ... .999, as BAH's organisers score.

    A row is predicted where its probability is at or above the threshold; without such rows the precision is 0. The area
    between a recall of 0 and that at the last threshold does not count. scikit-learn's average precision differs.
    From `bah_metrics.py` of github.com/sbelharbi/zero-shot-m-llm-bah-prediction.

    Args:
        probabilities: (n,) of the positive class.
        positive: (n,) bool.
    """
    n_positive = int(positive.sum())
    if not n_positive:
        return float("nan")
    of_all, of_positive = np.sort(probabilities), np.sort(probabilities[positive])
    n_predicted = len(of_all) - np.searchsorted(of_all, THRESHOLDS)
    n_right = n_positive - np.searchsorted(of_positive, THRESHOLDS)
    precision, recall = n_right / np.maximum(n_predicted, 1), n_right / n_positive
    return float(np.sum((recall[:-1] - recall[1:]) * (precision[:-1] + precision[1:]) / 2))
