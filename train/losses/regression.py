"""Losses of tasks with real numbers, such as valence and arousal: one minus the concordance correlation."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from abaw.core.errors import UsageError
from abaw.core.tasks import Task
from abaw.train.loss_options import CccBinsConfig, CccConfig, CccMseConfig, Moments, MseConfig
from abaw.train.losses.masked_rows import as_rows, weighted_mean

EPSILON = 1e-8  # far below the variance of annotations; gives constant predictions a finite gradient
PUBLISHED_EPSILON = 1e-4  # EMMA's variant


class CccLoss(nn.Module):
    """Mean over the label columns, weighted by their shares, of 1 - CCC, over all valid values of the batch.

    A column without a valid value counts as 0. A single value, or constant predictions and labels that are equal,
    have no CCC and count as 1.
    """

    shares: Tensor

    def __init__(self, config: CccConfig, task: Task, labels: NDArray[np.float32], valid: NDArray[np.bool_]) -> None:
        super().__init__()
        self._moments = config.moments
        self.register_buffer("shares", output_shares(config.shares, task))

    def forward(self, outputs: Tensor, labels: Tensor, valid: Tensor, progress: float) -> Tensor:
        """Scalar; see `abaw.train.losses.Loss`."""
        return weighted_mean(concordance_losses(*as_rows(outputs, labels, valid), self._moments), self.shares)


class MseLoss(nn.Module):
    """Mean over the label columns, weighted by their shares, of the mean squared error of the valid values.

    A column without a valid value counts as 0.
    """

    shares: Tensor

    def __init__(self, config: MseConfig, task: Task, labels: NDArray[np.float32], valid: NDArray[np.bool_]) -> None:
        super().__init__()
        self.register_buffer("shares", output_shares(config.shares, task))

    def forward(self, outputs: Tensor, labels: Tensor, valid: Tensor, progress: float) -> Tensor:
        """Scalar; see `abaw.train.losses.Loss`."""
        return weighted_mean(squared_errors(*as_rows(outputs, labels, valid)), self.shares)


class CccMseLoss(nn.Module):
    """The losses `ccc` and `mse`, each times its factor."""

    shares: Tensor

    def __init__(self, config: CccMseConfig, task: Task, labels: NDArray[np.float32], valid: NDArray[np.bool_]) -> None:
        super().__init__()
        self._config = config
        self.register_buffer("shares", output_shares(config.shares, task))

    def forward(self, outputs: Tensor, labels: Tensor, valid: Tensor, progress: float) -> Tensor:
        """Scalar; see `abaw.train.losses.Loss`."""
        rows, config = as_rows(outputs, labels, valid), self._config
        losses = config.ccc * concordance_losses(*rows, "population") + config.mse * squared_errors(*rows)
        return weighted_mean(losses, self.shares)


class CccBinsLoss(nn.Module):
    """1 - CCC of expected values, and the cross-entropy of the bins they are expected over (Situ-RUCAIM3, 2022).

    The outputs are the expectation of each label column, then the bin logits of the first column, of the second and
    so on. A label's class is the nearest bin, or its interval; the cross-entropy is a mean over all valid values.
    Columns count by their shares in both.
    """

    shares: Tensor

    def __init__(
        self, config: CccBinsConfig, task: Task, labels: NDArray[np.float32], valid: NDArray[np.bool_]
    ) -> None:
        super().__init__()
        self._config = config
        self.register_buffer("shares", output_shares(config.shares, task))

    def forward(self, outputs: Tensor, labels: Tensor, valid: Tensor, progress: float) -> Tensor:
        """Scalar; see `abaw.train.losses.Loss`."""
        outputs, labels, valid = as_rows(outputs, labels, valid)
        config, n_columns = self._config, labels.shape[-1]
        expected, logits = outputs[:, :n_columns], outputs[:, n_columns:].unflatten(-1, (n_columns, config.bins))
        logits = torch.where(valid[..., None], logits, 0)
        position = (torch.where(valid, labels, 0) + 1) / 2
        if config.assign == "nearest":
            numbers = (position * (config.bins - 1)).round()
        else:
            numbers = (position * config.bins).floor()  # of half-open intervals; 1 is in the last one
        classes = numbers.long().clamp(0, config.bins - 1)
        entropies = -F.log_softmax(logits, dim=-1).gather(-1, classes[..., None])[..., 0]
        concordance = weighted_mean(concordance_losses(expected, labels, valid, "population"), self.shares)
        return config.ccc * concordance + config.ce * weighted_mean(entropies, self.shares * valid)


def output_shares(shares: tuple[float, ...], task: Task) -> Tensor:
    """(columns,) float32, equal if `shares` is empty.

    Raises:
        UsageError: their number is not that of the task's columns, or all are 0.
    """
    if not shares:
        return torch.ones(len(task.columns))
    if len(shares) != len(task.columns) or not any(shares):
        listed = ", ".join(task.columns)
        raise UsageError(
            f"loss.shares needs a number for each output of task {task.name} ({listed}), one of them above 0; found "
            f"{','.join(map('{:g}'.format, shares))}. Give {len(task.columns)} numbers, or leave it out."
        )
    return torch.tensor(shares)


def squared_errors(outputs: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
    """(columns,) mean squared error over the valid rows of (rows, columns); 0 for a column without any."""
    errors = torch.where(valid, outputs, 0) - torch.where(valid, labels, 0).to(outputs.dtype)
    return errors.square().sum(dim=0) / valid.sum(dim=0).clamp(min=1)


def concordance_losses(outputs: Tensor, labels: Tensor, valid: Tensor, moments: Moments) -> Tensor:
    """(columns,) 1 - CCC (Lin, Biometrics 45, 1989) over the valid rows; 0 for a column without any.

    Args:
        outputs, labels, valid: (rows, columns).
        moments: see `CccConfig`. EMMA's code takes the correlation, its denominator raised by 1e-4, times the two
            unbiased deviations; here the equal product is computed from the unbiased covariance, which also
            has a gradient at constant predictions.
    """
    counts = valid.to(outputs.dtype)
    n_valid = counts.sum(dim=0)
    n = n_valid.clamp(min=1)
    # invalid labels and outputs may be any number, even NaN: set them to zero first
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
    probabilities = logits.to(torch.promote_types(logits.dtype, torch.float32)).softmax(dim=-1)
    return (probabilities * torch.linspace(-1, 1, bins, dtype=probabilities.dtype, device=probabilities.device)).sum(
        dim=-1
    )
