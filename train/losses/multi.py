"""The loss of tasks that join several others."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from abaw.core.tasks import Task
from abaw.train.loss_options import EmmaLossConfig
from abaw.train.losses.binary import binary_cross_entropies
from abaw.train.losses.class_weights import positive_weights
from abaw.train.losses.classes import cross_entropies
from abaw.train.losses.masked_rows import as_rows, weighted_mean, weights_of_rows
from abaw.train.losses.regression import concordance_losses


class EmmaLoss(nn.Module):
    """Sum of 1 - CCC for each real number and cross-entropies of the classes and the binary labels (EMMA, 2022).

    As in the authors' code, the CCC is the `unbiased` one; the cross-entropy of the classes is a mean over valid
    frames; that of the binary labels is summed over valid values and divided by the frames of the batch, valid or not.
    """

    def __init__(
        self, config: EmmaLossConfig, task: Task, labels: NDArray[np.float32], valid: NDArray[np.bool_]
    ) -> None:
        super().__init__()
        self._config, self._task = config, task
        for part, _, columns in task.each():
            if part.kind == "binary":
                option = "loss.positive_weights"
                weights = positive_weights(config.positive_weights, part, labels[:, columns], valid[:, columns], option)
                self.register_buffer(f"weights_{part.name}", weights)

    def forward(
        self, outputs: Tensor, labels: Tensor, valid: Tensor, progress: float, weights: Tensor | None = None
    ) -> Tensor:
        """Scalar; see `abaw.train.losses.Loss`."""
        outputs, labels, valid = as_rows(outputs, labels, valid)
        of_rows = weights_of_rows(weights, outputs)
        losses = [
            self._part(part, outputs[:, part_outputs], labels[:, columns], valid[:, columns], of_rows)
            for part, part_outputs, columns in self._task.each()
        ]
        return torch.stack(losses).sum()

    def _part(self, part: Task, outputs: Tensor, labels: Tensor, valid: Tensor, of_rows: Tensor) -> Tensor:
        if part.kind == "regression":
            return self._config.va * concordance_losses(outputs, labels, valid, "unbiased", of_rows).sum()
        if part.kind == "classes":
            return self._config.expr * weighted_mean(cross_entropies(outputs, labels, valid), (valid * of_rows)[:, 0])
        positive = self.get_buffer(f"weights_{part.name}")
        entropies = binary_cross_entropies(outputs, labels, valid, positive) * of_rows
        return self._config.au * entropies.sum() / len(outputs)
