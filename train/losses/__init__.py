"""Losses on masked labels. Invalid values have no effect, and every loss is finite even if no value is valid."""

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from abaw.core.errors import UsageError
from abaw.core.tasks import Task
from abaw.train.loss_options import LOSSES, CccBinsConfig, FocalConfig, LossConfig
from abaw.train.losses.binary import BinaryFocalLoss
from abaw.train.losses.classes import FocalLoss


class Loss(Protocol):
    """The function that training minimises. It may hold weights, which `to` moves to a device."""

    def __call__(
        self, outputs: Tensor, labels: Tensor, valid: Tensor, progress: float, weights: Tensor | None = None
    ) -> Tensor:
        """A finite scalar, 0 if no label is valid; the gradient is 0 at outputs with invalid labels.

        Args:
            outputs: (batch, time, outputs) or (batch, outputs) float, with a leading axis of views if there are several
                of the same windows. Losses that ignore views treat them as further examples.
            labels: (batch, time, columns) or (batch, columns), any number where invalid, even NaN.
            valid: bool, same shape as the labels.
            progress: finished epochs / all epochs, in [0, 1).
            weights: (batch, time) or (batch,) float32 of the frames, 0 and above; None if all count alike. Only losses whose
                options say `weighs_frames` take them.
        """
        ...

    def to(self, device: torch.device) -> "Loss":
        """The loss on a device."""
        ...


def _focal(config: FocalConfig, task: Task, labels: NDArray[np.float32], valid: NDArray[np.bool_]) -> Loss:
    """Cross-entropy times (1 - p)^gamma, p the label's probability (Lin et al., ICCV 2017)."""
    return (BinaryFocalLoss if task.kind == "binary" else FocalLoss)(config, task, labels, valid)


def create_loss(config: LossConfig, task: Task, labels: NDArray[np.float32], valid: NDArray[np.bool_]) -> Loss:
    """Build a loss.

    Args:
        labels, valid: (rows, columns) of the training split, for computing weights.

    Raises:
        UsageError: the loss is for another kind of task, or its weights are for another number of classes.
    """
    if task.kind not in config.kinds:
        fitting = ", ".join(name for name, other in LOSSES.items() if task.kind in other.kinds)
        raise UsageError(f"Loss {config.name!r} does not fit task {task.name!r}. Choose one of: {fitting}.")
    loss: Loss = LOSSES.builder(config.name)(config, task, labels, valid)
    return loss


def n_bins(config: LossConfig) -> int:
    """Bin logits that a model gives for each label column in addition to its expectation; 0 if the loss needs no bins."""
    return config.bins if isinstance(config, CccBinsConfig) else 0
