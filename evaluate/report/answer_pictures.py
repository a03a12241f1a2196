"""Pictures of answers for images and whole videos that are not one class each: numbers, and several labels."""

import math
import textwrap
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from abaw.core.tasks import Task
from abaw.evaluate.predictions import VideoPrediction, stack_labels
from abaw.evaluate.report.palette import LABEL_COLOUR, PREDICTED_COLOUR
from abaw.evaluate.scores.metrics import decide

COLUMNS = 3  # panels side by side
SIDE_IN = 2.9


def draw_answers(task: Task, predictions: Mapping[str, VideoPrediction], title: str) -> Figure:
    """A panel for each output: predicted over label for real numbers, the counts of both for binary outputs."""
    outputs, labels, _ = stack_labels(predictions.values())
    answers = np.asarray(decide(task, outputs), dtype=np.float64)
    columns = [(part, column) for part, _, columns in task.each() for column in range(columns.start, columns.stop)]
    n_across = min(COLUMNS, len(columns))
    n_down = math.ceil(len(columns) / n_across)
    figure = Figure(figsize=(SIDE_IN * max(n_across, 1.4), SIDE_IN * n_down + 0.5), layout="constrained")
    axes = figure.subplots(n_down, n_across, squeeze=False).ravel()
    for axis, (part, column) in zip(axes, columns, strict=False):
        valid = labels[:, column] != part.invalid
        draw = _draw_numbers if part.kind == "regression" else _draw_counts
        draw(axis, part, labels[valid, column], answers[valid, column])
        axis.set_title(task.columns[column], fontsize=10)
    for axis in axes[len(columns) :]:
        axis.set_visible(False)
    figure.suptitle(textwrap.fill(title, int(19 * max(n_across, 1.4))), fontsize=11)
    return figure


def _draw_numbers(axis: Axes, part: Task, labels: NDArray, answers: NDArray) -> None:
    margin = 0.04 * (part.high - part.low)
    ends = (part.low - margin, part.high + margin)
    axis.plot((part.low, part.high), (part.low, part.high), ls="--", lw=0.8, color=LABEL_COLOUR)
    axis.scatter(labels, answers, s=14, color=PREDICTED_COLOUR, alpha=0.6, lw=0)
    axis.set(xlim=ends, ylim=ends, xlabel="label", ylabel="predicted", aspect="equal")
    axis.grid(lw=0.4)


def _draw_counts(axis: Axes, part: Task, labels: NDArray, answers: NDArray) -> None:
    classes = range(int(part.low), int(part.high) + 1)
    counts = np.array([[np.sum((labels == actual) & (answers == answer)) for answer in classes] for actual in classes])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for actual, predicted in np.ndindex(counts.shape):
        colour = "white" if shares[actual, predicted] > 0.5 else LABEL_COLOUR
        axis.text(predicted, actual, f"{counts[actual, predicted]:,}", ha="center", va="center", color=colour)
    axis.set_xticks(classes)
    axis.set_yticks(classes)
    axis.set(xlabel="predicted", ylabel="label")
