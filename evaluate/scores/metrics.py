"""The official measures, pooled over all valid rows of a split, in float64.

Every measure is a function of a few sums over rows (see `abaw.evaluate.scores.formulas`), so that one implementation serves
a single score and the ten thousand draws of a bootstrap. Rows are frames, images or videos, depending on the
task.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from abaw.core.tasks import Task
from abaw.evaluate.scores.formulas import formula_of, ratio

ROWS_AT_ONCE = 2**16


@dataclass(frozen=True)
class Score:
    """A task's measure and its components.

    Attributes:
        score: the measure to maximise.
        parts: by output, its measure, such as CCC of valence and arousal, or F1 of each class or action unit.
        support: by output, number of counted labels: valid values, or valid values of that class.
        by_task: the measure of each plain task in the task; of a `multi` task `score` is their sum.
        n_frames: labelled rows, those with at least one valid label.
        also: further scores of the task by name, see `abaw.evaluate.scores.further_scores`.
    """

    score: float
    parts: dict[str, float]
    support: dict[str, int]
    by_task: dict[str, float]
    n_frames: int
    also: dict[str, float] = field(default_factory=dict)


def decide(task: Task, outputs: NDArray) -> NDArray:
    """Outputs in the form of labels: (n, columns).

    Real numbers are clipped to the range of the task; the class is the largest logit; a binary output is on where its
    logit is above 0, a probability of one half. The answers of a `multi` task are those of its parts, concatenated.

    Args:
        outputs: (n, outputs) of a head.
    """
    if task.kind == "multi":
        return np.concatenate([decide(part, outputs[:, part_outputs]) for part, part_outputs, _ in task.each()], axis=1)
    if task.kind == "regression":
        return np.clip(outputs, task.low, task.high)
    if task.kind == "classes":
        return outputs.argmax(axis=1)[:, None]
    return outputs > 0


def score(task: Task, outputs: NDArray, labels: NDArray) -> Score:
    """Score outputs against labels.

    Args:
        outputs: (n, outputs) of a head.
        labels: (n, columns) as published; invalid values are left out individually.
    """
    sums = row_sums(task, outputs, labels, centres_of(task, [(outputs, labels)]))
    total, *values = measures_of(task, sums[None])[0].tolist()
    n_parts = len(task.parts)
    by_task = dict(zip((part.name for part in task.parts), values, strict=False)) if n_parts else {task.name: total}
    support = [int(n) for part, part_sums in _by_part(task, sums) for n in part_sums[:, formula_of(part).support]]
    return Score(
        total,
        dict(zip(task.outputs, values[n_parts:], strict=True)),
        dict(zip(task.outputs, support, strict=True)),
        by_task,
        int(task.valid(labels).any(axis=1).sum()),
    )


def measure_names(task: Task) -> tuple[str, ...]:
    """Names of the measures, in order: `score`, the parts of a `multi` task, and each output."""
    return ("score", *(part.name for part in task.parts), *task.outputs)


def measures_of(task: Task, sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, measures) in the order of `measure_names`.

    Args:
        sums: (n, width) of `addends` over rows.
    """
    by_output, by_part = [], []
    for part, part_sums in _by_part(task, sums):
        measure = formula_of(part).measure
        by_output.append(measure(part_sums))
        if part.measure.pooled == "all":
            by_part.append(measure(part_sums.sum(axis=1)))
        elif part.measure.pooled == "weighted":
            support = part_sums[..., formula_of(part).support]
            by_part.append(ratio((by_output[-1] * support).sum(axis=1), support.sum(axis=1)))
        else:
            by_part.append(by_output[-1].mean(axis=1))
    parts = np.stack(by_part, axis=1)
    return np.concatenate([parts.sum(axis=1, keepdims=True), parts[:, : len(task.parts)], *by_output], axis=1)


def confusion(task: Task, outputs: NDArray, labels: NDArray) -> NDArray[np.int64]:
    """(classes, classes) counts of the valid labels of a task of classes: row the label, column the prediction."""
    valid = task.valid(labels)[:, 0]
    counts = np.zeros((len(task.outputs), len(task.outputs)), dtype=np.int64)
    np.add.at(counts, (labels[valid, 0].astype(np.int64), decide(task, outputs)[valid, 0]), 1)
    return counts


def row_sums(task: Task, outputs: NDArray, labels: NDArray, centres: NDArray[np.float64]) -> NDArray[np.float64]:
    """(width,) sums of `addends` over all rows."""
    starts = range(0, max(1, len(labels)), ROWS_AT_ONCE)
    pieces = [slice(start, start + ROWS_AT_ONCE) for start in starts]
    blocks = [_addends_by_part(task, outputs[rows], labels[rows], centres) for rows in pieces]
    return np.sum([np.concatenate([_sum(part) for part in parts]) for parts in blocks], axis=0)


def _sum(arrays: list[NDArray]) -> NDArray[np.float64]:
    """(outputs * n_sums,) sums over the rows of `n_sums` arrays (outputs, rows)."""
    totals = [
        [np.count_nonzero(row) for row in array] if array.dtype == np.bool_ else array.sum(axis=1) for array in arrays
    ]
    return np.stack(totals, axis=1, dtype=np.float64).ravel()


def addends(task: Task, outputs: NDArray, labels: NDArray, centres: NDArray[np.float64]) -> NDArray[np.float64]:
    """(rows, width): contribution of every row to the sums of every output, 0 where its label is invalid.

    Args:
        outputs: (rows, outputs) of a head.
        labels: (rows, columns) as published.
        centres: from `centres_of`.
    """
    parts = _addends_by_part(task, outputs, labels, centres)
    blocks = [np.stack(rows, axis=1, dtype=np.float64) for rows in parts]
    return np.concatenate([block.reshape(block.shape[0] * block.shape[1], len(labels)) for block in blocks]).T


def _addends_by_part(
    task: Task, outputs: NDArray, labels: NDArray, centres: NDArray[np.float64]
) -> list[list[NDArray]]:
    """For each plain task the (outputs, rows) addends to each sum."""
    parts = []
    for part, part_outputs, columns in task.each():
        answers, actual = decide(part, outputs[:, part_outputs]), labels[:, columns]
        valid, formula = part.valid(actual), formula_of(part)
        if formula.has_moments:
            answers, actual = answers - centres[0, columns], actual - centres[1, columns]
        by_column = [np.ascontiguousarray(values.T) for values in (answers, actual, valid)]  # sums are exact and fast
        parts.append(formula.addends(part, *by_column))
    return parts


def centres_of(task: Task, videos: Iterable[tuple[NDArray, NDArray]]) -> NDArray[np.float64]:
    """(2, columns) means of answers and of labels, around which moments lose no digits; 0 where not needed.

    CCC is only invariant to a common shift, so both are the mean of the labels there.

    Args:
        videos: outputs (rows, outputs) and labels (rows, columns) of each video.
    """
    totals, counts = np.zeros((2, len(task.columns))), np.zeros(len(task.columns))
    parts = [
        (part, part_outputs, columns) for part, part_outputs, columns in task.each() if formula_of(part).has_moments
    ]
    for outputs, labels in videos:
        for part, part_outputs, columns in parts:
            valid = part.valid(labels[:, columns])
            counts[columns] += valid.sum(axis=0)
            for i, values in enumerate((decide(part, outputs[:, part_outputs]), labels[:, columns])):
                totals[i, columns] += np.where(valid, values, 0).sum(axis=0, dtype=np.float64)
    for part, _, columns in parts:
        if part.measure.pooled == "all":  # the values of all columns are one sample
            totals[:, columns] = totals[:, columns].sum(axis=1, keepdims=True)
            counts[columns] = counts[columns].sum()
        if part.measure.of_output == "ccc":
            totals[0, columns] = totals[1, columns]
    return totals / np.maximum(counts, 1)


def _by_part(task: Task, sums: NDArray[np.float64]) -> list[tuple[Task, NDArray[np.float64]]]:
    """The plain tasks, each with its sums: (..., outputs, n_sums) of (..., width)."""
    blocks, start = [], 0
    for part, _, _ in task.each():
        shape = (len(part.outputs), formula_of(part).n_sums)
        stop = start + shape[0] * shape[1]
        blocks.append((part, sums[..., start:stop].reshape(*sums.shape[:-1], *shape)))
        start = stop
    return blocks
