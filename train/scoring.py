"""What a training is measured by while it runs: the score of validation videos, and sums over its own outputs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from abaw.core.devices import has_float64
from abaw.core.progress import Reporter
from abaw.core.tasks import Task
from abaw.train import multi_process
from abaw.train.config import TrainConfig
from abaw.train.data.samples import ScoredSamples
from abaw.train.data.windows import Targets
from abaw.train.losses import Loss

PREDICTED = "predicted"  # begins the name of the share of the validation rows for which a class is predicted
PENDING_BATCHES = 50  # on the device, until they are summed together: each copy to the host waits for the device

# outputs of some windows, (windows, time, outputs) with those that only the loss needs, and their targets
OnOutputs = Callable[[Tensor, Targets], None]
# model, validation videos, options, device, reporter, and what takes the outputs of each batch -> `score`, NaN if an
# output is not finite, and further measures by name
Validate = Callable[[nn.Module, ScoredSamples, TrainConfig, torch.device, Reporter, OnOutputs], Mapping[str, float]]


def ignore_outputs(outputs: Tensor, targets: Targets) -> None:
    """Take the outputs of a batch where nothing else needs them."""


def part_measures(task: Task) -> dict[str, str]:
    """What else a training keeps the best model for, and the measure of each: parts of a task, or several real numbers.

    For `mtl` these are `va` by `score va` and so on, for `va` they are `valence` by `CCC valence`, and `arousal`.
    """
    if task.kind == "regression" and len(task.outputs) > 1:
        return {output: f"{task.measure.short} {output}" for output in task.outputs}
    return {part.name: f"score {part.name}" for part in task.parts}


@dataclass(frozen=True)
class Scoring:
    """The measures of a training, whose formulas are in a room above this one.

    Attributes:
        validate: scores a model on videos.
        sums: task, (rows, outputs) and (rows, columns) -> sums over the rows, which can be added up.
        measures: task and such sums -> `score`, and the measures of outputs, by name.
    """

    validate: Validate
    sums: Callable[[Task, NDArray, NDArray], NDArray[np.float64]]
    measures: Callable[[Task, NDArray[np.float64]], Mapping[str, float]]


class OutputSums:
    """Sums over the outputs of an epoch's training steps, each as the model was before the step."""

    def __init__(self, task: Task, scoring: Scoring) -> None:
        self._task, self._scoring = task, scoring
        self._pending: list[tuple[Tensor, Tensor]] = []
        self._total: NDArray[np.float64] | None = None
        self._invalid: Tensor | None = None  # a label row

    def add(self, outputs: Tensor, labels: Tensor, valid: Tensor) -> None:
        """Count a batch: outputs of rows (..., outputs), labels and validity (..., columns); the mean over views."""
        if outputs.ndim > labels.ndim:
            outputs = outputs.mean(dim=0)
        outputs = outputs.detach()[..., : len(self._task.outputs)].flatten(0, -2).float()
        if self._invalid is None:
            self._invalid = torch.tensor(self._task.invalid_row, dtype=labels.dtype, device=labels.device)
        self._pending.append((outputs, torch.where(valid, labels, self._invalid).flatten(0, -2)))
        if len(self._pending) >= PENDING_BATCHES:
            self._add_up()

    def state(self) -> Tensor | None:
        """The sums so far; None before the first batch."""
        self._add_up()
        return None if self._total is None else torch.from_numpy(self._total.copy())

    def set_state(self, state: Tensor | None) -> None:
        """Begin with the sums of an earlier process."""
        self._pending, self._total = [], None if state is None else state.numpy().copy()

    def measures(self) -> dict[str, float]:
        """By name, such as `train score` and `train CCC valence`."""
        self._add_up()
        if self._total is None:
            return {}
        return {f"train {name}": value for name, value in self._scoring.measures(self._task, self._total).items()}

    def _add_up(self) -> None:
        if not self._pending:
            return
        outputs, labels = (torch.cat(tensors).cpu().numpy() for tensors in zip(*self._pending, strict=True))
        total, start = self._total, 0
        for batch_outputs, _ in self._pending:  # batch by batch: the sums do not depend on when this is called
            rows = slice(start, start + len(batch_outputs))
            sums = self._scoring.sums(self._task, outputs[rows], labels[rows])
            total, start = sums if total is None else total + sums, rows.stop
        # together, after all: Ctrl-C may come at any of them, and each batch is to be counted once
        self._total, self._pending = total, []


class ValidationLoss:
    """The loss of a model's outputs for validation windows: the mean over batches, weighted by their labels.

    Args:
        n_views: that the loss takes in training; all get the same outputs here, since evaluation has one view.
    """

    def __init__(self, loss: Loss, progress: float, n_views: int, device: torch.device) -> None:
        self._loss, self._progress, self._n_views, self._device = loss, progress, n_views, device
        self._sums = torch.zeros(2, dtype=torch.float64 if has_float64(device) else torch.float32, device=device)

    def add(self, outputs: Tensor, targets: Targets) -> None:
        """Count the windows of a batch."""
        if self._n_views:
            outputs = outputs.expand(self._n_views, *outputs.shape)
        outputs, labels, valid = targets.align(outputs.float())
        n_labels = valid.sum(dtype=self._sums.dtype)
        loss = self._loss(outputs, labels, valid, self._progress).to(self._sums.dtype)
        self._sums += torch.stack([torch.where(n_labels > 0, loss * n_labels, 0.0), n_labels])

    def mean(self) -> float:
        """NaN without labels."""
        sums = self._sums.cpu()
        multi_process.add_up(sums, self._device)
        return float(sums[0] / sums[1])
