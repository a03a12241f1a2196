"""Losses on masked labels. Each ignores values that are not valid, and stays finite when none is.

All take `outputs` (..., outputs) float, `labels` and `valid` (..., columns), and optional `weights`, and give a scalar.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from abaw.errors import UsageError

Loss = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
EPSILON = 1e-8  # far below the variance of any annotation, so that a constant prediction has a finite gradient


def ccc_loss(outputs: Tensor, labels: Tensor, valid: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean over outputs of 1 - CCC, Lin's concordance correlation with population moments.

    The moments are taken over all valid values of the batch. An output without a valid value counts as 0; a single
    value, or constant predictions and labels that are equal, have no CCC and count as 1.
    """
    outputs, labels = outputs.flatten(0, -2).float(), labels.flatten(0, -2).float()
    counts = valid.flatten(0, -2).float()
    n = counts.sum(0).clamp(min=1)
    # invalid labels hold any number: put zero where they are before they meet anything
    outputs, labels = outputs * counts, torch.where(counts > 0, labels, 0.0)
    mean_x, mean_y = outputs.sum(0) / n, labels.sum(0) / n
    centred_x, centred_y = (outputs - mean_x) * counts, (labels - mean_y) * counts
    covariance = (centred_x * centred_y).sum(0) / n
    spread = (centred_x.square() + centred_y.square()).sum(0) / n + (mean_x - mean_y).square()
    losses = 1 - 2 * covariance / (spread + EPSILON)
    return torch.where(counts.sum(0) > 0, losses, 0.0).mean()


def cross_entropy(outputs: Tensor, labels: Tensor, valid: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean cross-entropy of valid frames; `weights` (classes,) make it the weighted mean that torch defines."""
    target = torch.where(valid, labels, -1.0).flatten().long()
    if not valid.any():
        return outputs.sum() * 0
    return F.cross_entropy(outputs.flatten(0, -2).float(), target, weight=weights, ignore_index=-1)


def binary_cross_entropy(outputs: Tensor, labels: Tensor, valid: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean over valid values of the binary cross-entropy; `weights` (outputs,) multiply the positive values."""
    target = torch.where(valid, labels, 0.0)
    losses = F.binary_cross_entropy_with_logits(outputs.float(), target, pos_weight=weights, reduction="none")
    return (losses * valid).sum() / valid.sum().clamp(min=1)


LOSSES: dict[str, Loss] = {"ccc": ccc_loss, "cross-entropy": cross_entropy, "bce": binary_cross_entropy}
LOSS_KINDS = {"ccc": "regression", "cross-entropy": "classes", "bce": "binary"}  # the kind of task each is for


def get_loss(name: str, kind: str) -> Loss:
    """The loss called `name`, for tasks of a kind.

    Raises:
        UsageError: unknown, or for another kind of task.
    """
    fitting = [known for known, wanted in LOSS_KINDS.items() if wanted == kind]
    if name not in fitting:
        raise UsageError(f"Loss {name!r} does not fit this task. Choose one of: {', '.join(fitting)}.")
    return LOSSES[name]


def class_weights(labels: Tensor, valid: Tensor, n_classes: int) -> Tensor:
    """(classes,) inverse frequencies of the valid labels, scaled to a mean of 1; classes that never occur get 0."""
    counts = torch.bincount(labels[valid].long(), minlength=n_classes).float()
    weights = torch.where(counts > 0, counts.sum() / counts.clamp(min=1), 0.0)
    return weights * (counts > 0).sum() / weights.sum().clamp(min=1e-12)


def positive_weights(labels: Tensor, valid: Tensor, highest: float = 50.0) -> Tensor:
    """(columns,) negatives / positives of the valid labels, at most `highest`; 1 where there is no positive one."""
    positives = ((labels == 1) & valid).flatten(0, -2).sum(0).float()
    negatives = ((labels == 0) & valid).flatten(0, -2).sum(0).float()
    return torch.where(positives > 0, (negatives / positives.clamp(min=1)).clamp(1 / highest, highest), 1.0)
