"""Charts of what is annotated next to what is predicted: shares of classes and units, histograms of real numbers."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from abaw.core.tasks import Task
from abaw.evaluate.predictions import stack_labels
from abaw.evaluate.report.cells import titled
from abaw.evaluate.report.charts import LABEL, Axis, Chart, bar_chart, density_chart
from abaw.evaluate.report.content import Reported
from abaw.evaluate.scores.metrics import decide

N_BINS = 24
MOST_RUNS = 4  # whose histograms are drawn
NOTE = (
    "Over labelled rows. In histograms a cell is as dark as the root of its share; on the dashed line, prediction and label "
    "are equal."
)


def distributions(task: Task, runs: Sequence[Reported]) -> list[Chart]:
    """The labels of each plain task, and the predictions of each run on the same rows."""
    stacked = [stack_labels(run.predictions.values()) for run in runs]
    charts = []
    for part, outputs, columns in task.each():
        labels = [all_labels[:, columns] for _, all_labels, _ in stacked]
        answers = [np.asarray(decide(part, all_outputs[:, outputs]), dtype=np.float64) for all_outputs, _, _ in stacked]
        if part.kind == "regression":
            charts += _histograms(part, labels[:MOST_RUNS], answers[:MOST_RUNS], len(runs))
        else:
            shares = {LABEL: label_shares(part, labels[0], labels[0])}
            shares |= {i: label_shares(part, *pair) for i, pair in enumerate(zip(labels, answers, strict=True))}
            title = ", ".join([f"{part.name}: label", *(titled("predicted", i, len(runs)) for i in range(len(runs)))])
            words = "share of labels" if part.kind == "classes" else "share that is active"
            charts.append(bar_chart(title, Axis(words), part.outputs, shares))
    return charts


def label_shares(part: Task, labels: NDArray, answers: NDArray) -> list[float]:
    """Share of each class, or of the active rows of each unit, in the answers to valid labels; 0 without labels.

    Args:
        labels: (rows, columns) as published.
        answers: (rows, columns) in the form of labels.
    """
    valid = part.valid(labels)
    if part.kind == "classes":
        chosen = answers[valid[:, 0], 0]
        return [float(np.mean(chosen == number)) if len(chosen) else 0.0 for number in range(len(part.outputs))]
    return [float(np.sum(answers[:, i] * valid[:, i]) / max(1, valid[:, i].sum())) for i in range(len(part.outputs))]


def _histograms(part: Task, labels: Sequence[NDArray], answers: Sequence[NDArray], n_runs: int) -> list[Chart]:
    """Predictions over labels of each output; for two outputs, such as valence and arousal, also one over the other."""
    charts = []
    for i, (actual, predicted) in enumerate(zip(labels, answers, strict=True)):
        valid = part.valid(actual)
        for column, name in enumerate(part.outputs):
            rows = valid[:, column]
            title = titled(f"{name}, predicted", i, n_runs)
            charts.append(
                _density(part, title, "label", "predicted", actual[rows, column], predicted[rows, column], True)
            )
        if len(part.outputs) == 2:
            both = valid.all(axis=1)
            if i == 0:
                charts.append(_density(part, "labels", *part.outputs, *actual[both].T))
            charts.append(_density(part, titled("predicted", i, n_runs), *part.outputs, *predicted[both].T))
    return charts


def _density(
    part: Task, title: str, x_title: str, y_title: str, x: NDArray, y: NDArray, diagonal: bool = False
) -> Chart:
    ends = (part.low, part.high)
    counts = np.histogram2d(x, y, bins=N_BINS, range=(ends, ends))[0].astype(np.int64)
    x_axis, y_axis = (Axis(words, part.low, part.high) for words in (x_title, y_title))
    return density_chart(f"{part.name}: {title}", x_axis, y_axis, counts, diagonal)
