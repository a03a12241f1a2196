"""Losses of tasks with one class for each frame, such as expressions."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from abaw.core.tasks import Task
from abaw.train.loss_options import CrossEntropyConfig, FocalConfig
from abaw.train.losses.class_weights import class_weights
from abaw.train.losses.masked_rows import as_rows, weighted_mean, weights_of_rows


class CrossEntropyLoss(nn.Module):
    """Cross-entropy, its mean over the valid frames weighted by their classes' weights.

    Labels may be shares of classes, which count like so many labels of a share of a frame.
    """

    weights: Tensor

    def __init__(
        self, config: CrossEntropyConfig, task: Task, labels: NDArray[np.float32], valid: NDArray[np.bool_]
    ) -> None:
        super().__init__()
        self.register_buffer("weights", class_weights(config.weights, task, labels, valid))

    def forward(
        self, outputs: Tensor, labels: Tensor, valid: Tensor, progress: float, weights: Tensor | None = None
    ) -> Tensor:
        """Scalar; see `abaw.train.losses.Loss`."""
        outputs, labels, valid = as_rows(outputs, labels, valid)
        if labels.shape[-1] > 1:
            return _soft_cross_entropy(outputs, labels, valid, self.weights * weights_of_rows(weights, outputs))
        of_rows = row_weights(self.weights, labels, valid) * weights_of_rows(weights, outputs)[:, 0]
        return weighted_mean(cross_entropies(outputs, labels, valid), of_rows)


class FocalLoss(nn.Module):
    """Cross-entropy times alpha (1 - p)^gamma, p the label's probability (Lin et al., ICCV 2017).

    Its mean over the valid frames is weighted by their classes' weights.
    """

    weights: Tensor

    def __init__(self, config: FocalConfig, task: Task, labels: NDArray[np.float32], valid: NDArray[np.bool_]) -> None:
        super().__init__()
        self._gamma, self._alpha = config.gamma, 1.0 if config.alpha is None else config.alpha
        self.register_buffer("weights", class_weights(config.weights, task, labels, valid))

    def forward(
        self, outputs: Tensor, labels: Tensor, valid: Tensor, progress: float, weights: Tensor | None = None
    ) -> Tensor:
        """Scalar; see `abaw.train.losses.Loss`."""
        outputs, labels, valid = as_rows(outputs, labels, valid)
        entropies = cross_entropies(outputs, labels, valid)
        # 1 - p without cancellation; a power below 1 has no finite slope at 0
        missed = (-torch.expm1(-entropies)).clamp(min=torch.finfo(entropies.dtype).eps)
        focal = self._alpha * missed.pow(self._gamma) * entropies
        return weighted_mean(focal, row_weights(self.weights, labels, valid) * weights_of_rows(weights, outputs)[:, 0])


def classes_of(labels: Tensor, valid: Tensor) -> Tensor:
    """(rows,) integer classes of labels (rows, 1); 0 where not valid."""
    return torch.where(valid, labels, 0)[:, 0].long()


def cross_entropies(outputs: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
    """(rows,) cross-entropy of logits (rows, classes) with labels (rows, 1); constant where not valid."""
    log_probabilities = F.log_softmax(torch.where(valid, outputs, 0), dim=-1)
    return -log_probabilities.gather(-1, classes_of(labels, valid)[:, None])[:, 0]


def _soft_cross_entropy(outputs: Tensor, shares: Tensor, valid: Tensor, weights: Tensor) -> Tensor:
    """The mean over valid rows of logits (rows, classes) with shares of classes, each weighted, (1 or rows, classes)."""
    weighted = torch.where(valid, shares.to(outputs.dtype), 0) * weights
    log_probabilities = F.log_softmax(torch.where(valid, outputs, 0), dim=-1)
    total = weighted.sum()
    return -(weighted * log_probabilities).sum() / torch.where(total > 0, total, 1)


def row_weights(weights: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
    """(rows,) weight of each row's class; 0 where not valid."""
    return weights[classes_of(labels, valid)] * valid[:, 0]
