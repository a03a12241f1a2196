"""The formulas of the measures: the contribution of a row to the sums of an output, and the measure of these sums.

A class or action unit that occurs neither in labels nor in predictions has F1 0. Constants have CCC and Pearson's r 0.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from abaw.core.tasks import OfOutput, Task

ROUNDING = 1e-12  # a smaller spread, relative to the mean square, is a rounding error of equal values

Addends = Callable[[Task, NDArray, NDArray, NDArray[np.bool_]], list[NDArray]]


@dataclass(frozen=True)
class Formula:
    """The measure of an output.

    Attributes:
        n_sums: number of sums it needs. A bootstrap of images sorts by them: another order gives other draws.
        addends: contributions of rows to each sum, (outputs, rows), 0 without a valid label; from answers, labels and
            validity of a plain task, (columns, rows) each.
        measure: (...,) values from (..., n_sums) sums.
        support: index of the sum that is the output's support.
        has_moments: the sums are moments, which lose digits unless answers and labels are centred.
    """

    n_sums: int
    addends: Addends
    measure: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    support: int = 0
    has_moments: bool = False


def formula_of(task: Task) -> Formula:
    """The measure of each output of a plain task."""
    assert task.measure.of_output is not None
    return FORMULAS[task.measure.of_output]


def ratio(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> NDArray[np.float64]:
    """`numerator / denominator`, 0 where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)


def _moments(task: Task, answers: NDArray, labels: NDArray, valid: NDArray[np.bool_]) -> list[NDArray]:
    """1, x, y, xx, yy, xy."""
    x, y = np.where(valid, answers, 0), np.where(valid, labels, 0)
    return [valid, x, y, x * x, y * y, x * y]


def _ccc(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lin's concordance correlation coefficient, 2 s_xy / (s_x^2 + s_y^2 + (m_x - m_y)^2), population moments."""
    x, y, xx, yy, xy = _means(sums)
    spread = xx + yy - 2 * x * y  # variances and squared distance of means, summed
    return ratio(2 * (xy - x * y), np.where(spread > ROUNDING * (xx + yy), spread, 0))


def _pearson(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pearson's correlation coefficient, s_xy / (s_x s_y)."""
    x, y, xx, yy, xy = _means(sums)
    deviations = [
        np.sqrt(np.where(square - mean**2 > ROUNDING * square, square - mean**2, 0))
        for mean, square in ((x, xx), (y, yy))
    ]
    return ratio(xy - x * y, deviations[0] * deviations[1])


def _means(sums: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    n, *totals = np.moveaxis(sums, -1, 0)
    return [total / np.maximum(n, 1) for total in totals]


def _squared_errors(task: Task, answers: NDArray, labels: NDArray, valid: NDArray[np.bool_]) -> list[NDArray]:
    """1, and the squared difference."""
    return [valid, np.where(valid, answers.astype(np.float64) - labels, 0) ** 2]


def _minus_mse(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Minus the mean squared error: more is better, as in all measures."""
    n, squares = np.moveaxis(sums, -1, 0)
    return -ratio(squares, n)


def _decisions(
    task: Task, answers: NDArray, labels: NDArray, valid: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(outputs, rows) bool each: the output is predicted, and it is true; False without a valid label."""
    positive = np.arange(len(task.outputs))[:, None] if task.kind == "classes" else 1
    return (answers == positive) & valid, (labels == positive) & valid


def _f1_counts(task: Task, answers: NDArray, labels: NDArray, valid: NDArray[np.bool_]) -> list[NDArray]:
    """Correct predictions of the output, predictions of it, and labels."""
    predicted, actual = _decisions(task, answers, labels, valid)
    return [predicted & actual, predicted, actual]


def _f1(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """F1 of the positive class, 2 TP / (2 TP + FP + FN)."""
    hits, predicted, actual = np.moveaxis(sums, -1, 0)
    return ratio(2 * hits, predicted + actual)


def _accuracy_counts(task: Task, answers: NDArray, labels: NDArray, valid: NDArray[np.bool_]) -> list[NDArray]:
    """Labels of the output, judged rows, and correct ones among them."""
    predicted, actual = _decisions(task, answers, labels, valid)
    judged = actual if task.kind == "classes" else valid
    return [actual, judged, (predicted == actual) & judged]


def _accuracy(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of correct rows among the judged ones."""
    _, judged, right = np.moveaxis(sums, -1, 0)
    return ratio(right, judged)


FORMULAS: dict[OfOutput, Formula] = {
    "ccc": Formula(6, _moments, _ccc, has_moments=True),
    "pearson": Formula(6, _moments, _pearson, has_moments=True),
    "mse": Formula(2, _squared_errors, _minus_mse),
    "f1": Formula(3, _f1_counts, _f1, support=2),
    "accuracy": Formula(3, _accuracy_counts, _accuracy),
}
