"""Weights of classes and of positive labels: as configured, equal, or inverse to their frequency in the training split."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from abaw.core.errors import UsageError
from abaw.core.tasks import Task
from abaw.train.loss_options import Weights

HIGHEST = 50.0  # largest positive weight: without it a very rare action unit would dominate the loss


def class_weights(
    weights: Weights, task: Task, labels: NDArray[np.float32], valid: NDArray[np.bool_], option: str = "loss.weights"
) -> Tensor:
    """(classes,) float32 weights for a `classes` task.

    Args:
        weights: `inverse` are the inverse frequencies of the valid labels, scaled to a mean of 1 over the classes
            that occur; other classes get 0.
        labels, valid: (rows, 1) of the training split.
        option: name of the option, for the error message.

    Raises:
        UsageError: the number of weights is not the number of classes.
    """
    n_classes = len(task.outputs)
    if weights == "inverse":
        counts = np.bincount(labels[valid].astype(np.int64), minlength=n_classes)
        shares = np.where(counts > 0, 1 / np.maximum(counts, 1), 0)
        return torch.tensor(shares * (counts > 0).sum() / max(shares.sum(), 1e-12), dtype=torch.float32)
    return _configured_weights(weights, n_classes, f"task {task.name} has {n_classes} classes", option)


def positive_weights(
    weights: Weights, task: Task, labels: NDArray[np.float32], valid: NDArray[np.bool_], option: str = "loss.weights"
) -> Tensor:
    """(columns,) float32 weights of the positive labels of a `binary` task.

    Args:
        weights: `inverse` are the valid negative over the valid positive labels, between 1/50 and 50; a column
            without positive labels gets 1.
        labels, valid: (rows, columns) of the training split.
        option: name of the option, for the error message.

    Raises:
        UsageError: the number of weights is not the number of columns.
    """
    n_columns = len(task.columns)
    if weights == "inverse":
        positives, negatives = ((labels == 1) & valid).sum(axis=0), ((labels == 0) & valid).sum(axis=0)
        ratios = np.clip(negatives / np.maximum(positives, 1), 1 / HIGHEST, HIGHEST)
        return torch.tensor(np.where(positives > 0, ratios, 1), dtype=torch.float32)
    return _configured_weights(weights, n_columns, f"task {task.name} has {n_columns} columns", option)


def _configured_weights(weights: Weights, n_weights: int, reason: str, option: str) -> Tensor:
    if weights == "equal":
        return torch.ones(n_weights)
    if len(weights) != n_weights:
        raise UsageError(f"{option} has {len(weights)} numbers, but {reason}: pass one for each, or equal or inverse.")
    return torch.tensor(weights, dtype=torch.float32)
