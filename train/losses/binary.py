"""Losses of tasks with several binary labels, such as action units."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from abaw.core.tasks import Task
from abaw.train.loss_options import BceConfig, FocalConfig
from abaw.train.losses.class_weights import positive_weights
from abaw.train.losses.masked_rows import as_rows, total_of, weights_of_rows


class BceLoss(nn.Module):
    """Mean over all valid values of the binary cross-entropy, positive labels weighted."""

    weights: Tensor

    def __init__(self, config: BceConfig, task: Task, labels: NDArray[np.float32], valid: NDArray[np.bool_]) -> None:
        super().__init__()
        self.register_buffer("weights", positive_weights(config.weights, task, labels, valid))

    def forward(
        self, outputs: Tensor, labels: Tensor, valid: Tensor, progress: float, weights: Tensor | None = None
    ) -> Tensor:
        """Scalar; see `abaw.train.losses.Loss`."""
        outputs, labels, valid = as_rows(outputs, labels, valid)
        of_rows = weights_of_rows(weights, outputs)
        entropies = binary_cross_entropies(outputs, labels, valid, self.weights)
        return (entropies * of_rows).sum() / total_of(valid * of_rows)


class BinaryFocalLoss(nn.Module):
    """Binary cross-entropy times (1 - p)^gamma, p the label's probability (Lin et al., ICCV 2017), mean over all valid values.

    With `alpha`, also times alpha for positive and 1 - alpha for negative labels.
    """

    weights: Tensor

    def __init__(self, config: FocalConfig, task: Task, labels: NDArray[np.float32], valid: NDArray[np.bool_]) -> None:
        super().__init__()
        self._gamma, self._alpha = config.gamma, config.alpha
        self.register_buffer("weights", positive_weights(config.weights, task, labels, valid))

    def forward(
        self, outputs: Tensor, labels: Tensor, valid: Tensor, progress: float, weights: Tensor | None = None
    ) -> Tensor:
        """Scalar; see `abaw.train.losses.Loss`."""
        outputs, labels, valid = as_rows(outputs, labels, valid)
        shown = torch.where(valid, outputs, 0) * torch.where(valid & (labels != 1), -1, 1)
        # a power below 1 has no finite slope at 0
        missed = torch.sigmoid(-shown).clamp(min=torch.finfo(shown.dtype).eps)
        entropies = binary_cross_entropies(outputs, labels, valid, self.weights)
        if self._alpha is not None:
            entropies = entropies * torch.where(labels == 1, self._alpha, 1 - self._alpha)
        of_rows = weights_of_rows(weights, outputs)
        return (missed.pow(self._gamma) * entropies * of_rows).sum() / total_of(valid * of_rows)


def binary_cross_entropies(outputs: Tensor, labels: Tensor, valid: Tensor, weights: Tensor) -> Tensor:
    """(rows, columns) cross-entropies of logits, those of positive labels times weights (columns,); 0 if not valid."""
    outputs, labels = torch.where(valid, outputs, 0), torch.where(valid, labels, 0).to(outputs.dtype)
    return -(weights * labels * F.logsigmoid(outputs) + (1 - labels) * F.logsigmoid(-outputs)) * valid
