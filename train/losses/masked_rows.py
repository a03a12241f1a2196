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


def weights_of_rows(weights: Tensor | None, rows: Tensor) -> Tensor:
    """(rows, 1) weights of the rows of `as_rows`, those of a frame for each of its views; (1, 1) of 1 if all count alike.

    Args:
        weights: (batch, time) or (rows,), 0 and above.
        rows: (rows, outputs).
    """
    if weights is None:
        return rows.new_ones(1, 1)
    flat = weights.flatten()
    return flat.repeat(len(rows) // len(flat))[:, None]


def total_of(weights: Tensor, dim: int | None = None) -> Tensor:
    """The sum of weights to divide by; 1 where it is 0."""
    total = weights.sum(dim=dim)
    return torch.where(total > 0, total, 1)


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Sum of weights times values over the sum of the weights; 0 if that is 0."""
    return (values * weights).sum() / total_of(weights)
