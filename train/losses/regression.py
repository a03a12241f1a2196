"""Losses of tasks with real numbers, such as valence and arousal: one minus the concordance correlation."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from abaw.core.errors import UsageError
from abaw.core.tasks import Task
from abaw.train.loss_options import CccBinsConfig, CccConfig, CccMseConfig, Moments, MseConfig
from abaw.train.losses.masked_rows import as_rows, total_of, weighted_mean, weights_of_rows

EPSILON = 1e-8  # far below the variance of annotations; gives constant predictions a finite gradient
PUBLISHED_EPSILON = 1e-4  # EMMA's variant
LEAST_DEGREES = 1e-6  # of the sum of the weights


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

    def forward(
        self, outputs: Tensor, labels: Tensor, valid: Tensor, progress: float, weights: Tensor | None = None
    ) -> Tensor:
        """Scalar; see `abaw.train.losses.Loss`."""
        outputs, labels, valid = as_rows(outputs, labels, valid)
        of_rows = weights_of_rows(weights, outputs)
        return weighted_mean(concordance_losses(outputs, labels, valid, self._moments, of_rows), self.shares)


class MseLoss(nn.Module):
    """Mean over the label columns, weighted by their shares, of the mean squared error of the valid values.

    A column without a valid value counts as 0.
    """

    shares: Tensor

    def __init__(self, config: MseConfig, task: Task, labels: NDArray[np.float32], valid: NDArray[np.bool_]) -> None:
        super().__init__()
        self.register_buffer("shares", output_shares(config.shares, task))

    def forward(
        self, outputs: Tensor, labels: Tensor, valid: Tensor, progress: float, weights: Tensor | None = None
    ) -> Tensor:
        """Scalar; see `abaw.train.losses.Loss`."""
        outputs, labels, valid = as_rows(outputs, labels, valid)
        return weighted_mean(squared_errors(outputs, labels, valid, weights_of_rows(weights, outputs)), self.shares)


class CccMseLoss(nn.Module):
    """The losses `ccc` and `mse`, each times its factor."""

    shares: Tensor

    def __init__(self, config: CccMseConfig, task: Task, labels: NDArray[np.float32], valid: NDArray[np.bool_]) -> None:
        super().__init__()
        self._config = config
        self.register_buffer("shares", output_shares(config.shares, task))

    def forward(
        self, outputs: Tensor, labels: Tensor, valid: Tensor, progress: float, weights: Tensor | None = None
    ) -> Tensor:
        """Scalar; see `abaw.train.losses.Loss`."""
        outputs, labels, valid = as_rows(outputs, labels, valid)
        of_rows, config = weights_of_rows(weights, outputs), self._config
        concordance = concordance_losses(outputs, labels, valid, "population", of_rows)
        errors = squared_errors(outputs, labels, valid, of_rows)
        return weighted_mean(config.ccc * concordance + config.mse * errors, self.shares)


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

    def forward(
        self, outputs: Tensor, labels: Tensor, valid: Tensor, progress: float, weights: Tensor | None = None
    ) -> Tensor:
        """Scalar; see `abaw.train.losses.Loss`."""
        outputs, labels, valid = as_rows(outputs, labels, valid)
        of_rows = weights_of_rows(weights, outputs)
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
        concordance = concordance_losses(expected, labels, valid, "population", of_rows)
        entropy = weighted_mean(entropies, self.shares * valid * of_rows)
        return config.ccc * weighted_mean(concordance, self.shares) + config.ce * entropy


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


def squared_errors(outputs: Tensor, labels: Tensor, valid: Tensor, weights: Tensor) -> Tensor:
    """(columns,) weighted mean of the squared errors over the valid rows of (rows, columns); 0 for a column without any.

    Args:
        weights: (rows, 1) or (1, 1), 0 and above.
    """
    errors = torch.where(valid, outputs, 0) - torch.where(valid, labels, 0).to(outputs.dtype)
    return (errors.square() * weights).sum(dim=0) / total_of(valid * weights, dim=0)


def concordance_losses(outputs: Tensor, labels: Tensor, valid: Tensor, moments: Moments, weights: Tensor) -> Tensor:
    """(columns,) 1 - CCC (Lin, Biometrics 45, 1989) over the valid rows; 0 for a column without any.

    Means, variances and covariance are weighted. The `unbiased` ones divide by n - sum(w^2) / n, where n is the sum of
    the weights w, as those of `numpy.cov(..., aweights=w)`; n - 1 for equal weights.

    Args:
        outputs, labels, valid: (rows, columns).
        weights: (rows, 1) or (1, 1), 0 and above.
        moments: see `CccConfig`. EMMA's code takes the correlation, its denominator raised by 1e-4, times the two
            unbiased deviations; here the equal product is computed from the unbiased covariance, which also
            has a gradient at constant predictions.
    """
    counts = valid * weights.to(outputs.dtype)
    n = total_of(counts, dim=0)
    # invalid labels and outputs may be any number, even NaN: set them to zero first
    outputs, labels = torch.where(valid, outputs, 0), torch.where(valid, labels, 0).to(outputs.dtype)
    mean_x, mean_y = (outputs * counts).sum(dim=0) / n, (labels * counts).sum(dim=0) / n
    x, y = outputs - mean_x, labels - mean_y
    products, squares_x, squares_y = ((values * counts).sum(dim=0) for values in (x * y, x.square(), y.square()))
    distance = (mean_x - mean_y).square()
    if moments == "population":
        ccc = 2 * products / n / ((squares_x + squares_y) / n + distance + EPSILON)
    else:
        left = n - counts.square().sum(dim=0) / n
        degrees = torch.where(left > LEAST_DEGREES * n, left, n)  # of a single row all sums are 0
        norm = squares_x.clamp(min=1e-12).sqrt() * squares_y.clamp(min=1e-12).sqrt()
        covariance = products / degrees * norm / (norm + PUBLISHED_EPSILON)
        ccc = 2 * covariance / ((squares_x + squares_y) / degrees + distance + PUBLISHED_EPSILON)
    return torch.where(counts.sum(dim=0) > 0, 1 - ccc, 0)


def expectation(logits: Tensor, bins: int) -> Tensor:
    """(...) expected value, in [-1, 1], of the softmax of logits (..., bins) over linspace(-1, 1, bins)."""
    probabilities = logits.to(torch.promote_types(logits.dtype, torch.float32)).softmax(dim=-1)
    return (probabilities * torch.linspace(-1, 1, bins, dtype=probabilities.dtype, device=probabilities.device)).sum(
        dim=-1
    )
