"""A free bias for each class: what is added to its logit so that the score is highest."""

import numpy as np
from numpy.typing import NDArray

from abaw.core.tasks import Task
from abaw.evaluate.scores.metrics import measures_of

LARGEST_BIAS = 9.0
MOST_CUTS = 4096  # biases of a class that are tried in a sweep, at equal distances in the ranks of the rows
MOST_SWEEPS = 20  # over all classes; few are needed
BETTER = 1e-9


def improve_biases(
    task: Task, outputs: NDArray[np.float32], labels: NDArray[np.float32], biases: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Better biases of the classes, from these on: one class after another, until none gives a higher score.

    The answer of a row changes only where the bias of a class passes its margin to the best other class, so the biases
    between margins are tried. A class that the labels do not have keeps its bias.

    Args:
        outputs: (rows, classes) logits of rows with a label.
        labels: (rows, 1) classes.
        biases: (classes,) to start from.

    Returns:
        (classes,) with a score at least as high; each within `LARGEST_BIAS` of 0 if it was changed.
    """
    logits, actual = outputs.astype(np.float64), labels[:, 0].astype(np.int64)
    biases = biases.astype(np.float64).copy()
    best = -np.inf
    for _ in range(MOST_SWEEPS):
        before = best
        for k in np.unique(actual):
            bias, value = _best_bias(task, logits + biases * (np.arange(len(biases)) != k), actual, int(k), biases[k])
            if value > best + BETTER:
                biases[k], best = bias, value
        if best <= before + BETTER:
            break
    return biases


def _best_bias(
    task: Task, logits: NDArray[np.float64], actual: NDArray[np.int64], k: int, now: float
) -> tuple[float, float]:
    """The bias of class `k` with the highest score, the one nearest to `now` among equals, and that score.

    Args:
        logits: (rows, classes), with the biases of the other classes.
    """
    others = logits.copy()
    others[:, k] = -np.inf
    rivals = others.argmax(axis=1)
    margins = others.max(axis=1) - logits[:, k]  # the row is of class k where the bias is larger
    order = np.argsort(margins, kind="stable")
    margins, rivals, actual = margins[order], rivals[order], actual[order]
    edges = np.concatenate([[margins[0] - 2], margins, [margins[-1] + 2]])
    n_won = np.unique(np.linspace(0, len(margins), MOST_CUTS).astype(np.int64)) if len(margins) > MOST_CUTS else (
        np.arange(len(margins) + 1)
    )  # fmt: skip
    n_won = n_won[edges[n_won] < edges[n_won + 1]]
    cuts = (edges[n_won] + edges[n_won + 1]) / 2
    n_won = np.append(n_won, np.searchsorted(margins, now, side="left"))
    cuts = np.append(cuts, now)
    values = _scores(task, rivals, actual, k, n_won)
    values[(np.abs(cuts) > LARGEST_BIAS) & (cuts != now)] = -np.inf
    best = np.flatnonzero(values >= values.max() - BETTER)
    nearest = best[np.abs(cuts[best] - now).argmin()]
    return float(cuts[nearest]), float(values[nearest])


def _scores(
    task: Task, rivals: NDArray[np.int64], actual: NDArray[np.int64], k: int, n_won: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The score if the first so many rows are answered by class `k`, and the others by their rivals."""
    sums = []
    for c in range(len(task.outputs)):
        is_rival = rivals == c
        predicted, hits = (
            np.concatenate([[0], np.cumsum(rows)])[n_won] for rows in (is_rival, is_rival & (actual == c))
        )
        if c == k:
            predicted, hits = n_won, np.concatenate([[0], np.cumsum(actual == k)])[n_won]
        else:
            predicted, hits = is_rival.sum() - predicted, (is_rival & (actual == c)).sum() - hits
        counts = np.full(len(n_won), (actual == c).sum())
        of_f1 = task.measure.of_output == "f1"
        sums.append(np.stack([hits, predicted, counts] if of_f1 else [counts, counts, hits], axis=1))
    return measures_of(task, np.concatenate(sums, axis=1).astype(np.float64))[:, 0]
