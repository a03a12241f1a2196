"""Shared by losses: windows and views flattened into rows, and means that stay finite."""

import torch
from torch import Tensor


def as_views(outputs: Tensor, labels: Tensor) -> Tensor:
    """(views, rows, outputs) of (batch, time, outputs), (batch, outputs) or either with an axis of views in front.

    Half precision becomes float32, which sums over a batch need; float64 is unchanged.
    """
    views = outputs if outputs.ndim > labels.ndim else outputs[None]
    return views.to(torch.promote_types(views.dtype, torch.float32)).flatten(1, -2)


def as_rows(outputs: Tensor, labels: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs (rows, outputs), labels and validity (rows, columns); each view is a further example of its labels."""
    views = as_views(outputs, labels)
    n_views = len(views)
    return views.flatten(0, 1), labels.flatten(0, -2).repeat(n_views, 1), valid.flatten(0, -2).repeat(n_views, 1)


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Sum of weights times values over the sum of the weights; 0 if that is 0."""
    total = weights.sum()
    return (values * weights).sum() / torch.where(total > 0, total, 1)
