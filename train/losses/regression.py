"""Losses of tasks with real numbers, such as valence and arousal: one minus the concordance correlation."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from abaw.core.tasks import Task
from abaw.train.loss_options import CccBinsConfig, CccConfig, Moments
from abaw.train.losses.masked_rows import as_rows, weighted_mean

EPSILON = 1e-8  # far below the variance of any annotation, so that a constant prediction has a finite gradient
PUBLISHED_EPSILON = 1e-4  # of the variant that EMMA was trained with


class CccLoss(nn.Module):
    """Mean over the label columns of 1 - CCC, over all valid values of the batch.

    A column without a valid value counts as 0. A single value, or constant predictions and labels that are equal,
    have no CCC and count as 1.
    """

    def __init__(self, config: CccConfig, task: Task, labels: NDArray[np.float32], valid: NDArray[np.bool_]) -> None:
        super().__init__()
        self._moments = config.moments

    def forward(self, outputs: Tensor, labels: Tensor, valid: Tensor, progress: float) -> Tensor:
        """Scalar; see `abaw.train.losses.Loss`."""
        return concordance_losses(*as_rows(outputs, labels, valid), self._moments).mean()


class CccBinsLoss(nn.Module):
    """1 - CCC of expected values, and the cross-entropy of the bins they are expected over (Situ-RUCAIM3, 2022).

    The outputs are the expectation of each label column, then the bin logits of the first column, of the second and
    so on. A label's class is the nearest bin; the cross-entropy is a mean over all valid values.
    """

    def __init__(
        self, config: CccBinsConfig, task: Task, labels: NDArray[np.float32], valid: NDArray[np.bool_]
    ) -> None:
        super().__init__()
        self._config = config

    def forward(self, outputs: Tensor, labels: Tensor, valid: Tensor, progress: float) -> Tensor:
        """Scalar; see `abaw.train.losses.Loss`."""
        outputs, labels, valid = as_rows(outputs, labels, valid)
        config, n_columns = self._config, labels.shape[-1]
        expected, logits = outputs[:, :n_columns], outputs[:, n_columns:].unflatten(-1, (n_columns, config.bins))
        logits = torch.where(valid[..., None], logits, 0)
        position = (torch.where(valid, labels, 0) + 1) / 2 * (config.bins - 1)
        nearest = position.round().long().clamp(0, config.bins - 1)
        entropies = -F.log_softmax(logits, dim=-1).gather(-1, nearest[..., None])[..., 0]
        concordance = concordance_losses(expected, labels, valid, "population").mean()
        return config.ccc * concordance + config.ce * weighted_mean(entropies, valid.to(entropies.dtype))


def concordance_losses(outputs: Tensor, labels: Tensor, valid: Tensor, moments: Moments) -> Tensor:
    """(columns,) of 1 - CCC over the valid rows; 0 where none is. CCC is that of Lin (Biometrics 45, 1989).

    Args:
        outputs, labels, valid: (rows, columns).
        moments: see `CccConfig`. EMMA's code takes the correlation, its denominator raised by 1e-4, times the two
            unbiased deviations; here the same product is the unbiased covariance, lowered by that share, which has
            a gradient at constant predictions too.
    """
    counts = valid.to(outputs.dtype)
    n_valid = counts.sum(dim=0)
    n = n_valid.clamp(min=1)
    # invalid labels and outputs hold any number: put zero where they are before they meet anything
    outputs, labels = torch.where(valid, outputs, 0), torch.where(valid, labels, 0).to(outputs.dtype)
    mean_x, mean_y = outputs.sum(dim=0) / n, labels.sum(dim=0) / n
    x, y = (outputs - mean_x) * counts, (labels - mean_y) * counts
    products, squares_x, squares_y = (x * y).sum(dim=0), x.square().sum(dim=0), y.square().sum(dim=0)
    distance = (mean_x - mean_y).square()
    if moments == "population":
        ccc = 2 * products / n / ((squares_x + squares_y) / n + distance + EPSILON)
    else:
        degrees = (n - 1).clamp(min=1)
        norm = squares_x.clamp(min=1e-12).sqrt() * squares_y.clamp(min=1e-12).sqrt()
        covariance = products / degrees * norm / (norm + PUBLISHED_EPSILON)
        ccc = 2 * covariance / ((squares_x + squares_y) / degrees + distance + PUBLISHED_EPSILON)
    return torch.where(n_valid > 0, 1 - ccc, 0)


def expectation(logits: Tensor, bins: int) -> Tensor:
    """(...) expected value, in [-1, 1], of the softmax of logits (..., bins) over linspace(-1, 1, bins)."""
    chances = logits.to(torch.promote_types(logits.dtype, torch.float32)).softmax(dim=-1)
    return (chances * torch.linspace(-1, 1, bins, dtype=chances.dtype, device=chances.device)).sum(dim=-1)
