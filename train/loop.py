"""The training loop: windows in, a trained head and its checkpoints out."""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from abaw.errors import AbawError
from abaw.tasks import Task
from abaw.train.checkpoint import BEST, Progress, load_last, save_last, save_tensors
from abaw.train.config import TrainConfig
from abaw.train.losses import class_weights, get_loss, positive_weights
from abaw.train.windows import Table, WindowSampler

METRICS = "metrics.jsonl"


@dataclass(frozen=True)
class Epoch:
    """What one epoch gave.

    Attributes:
        epoch: its number, from 1.
        loss: mean training loss of its steps.
        score: the task's measure on the validation split.
        lr: learning rate of its last step.
        seconds: of the training steps.
        waiting_share: part of these that the head waited for its data.
    """

    epoch: int
    loss: float
    score: float
    lr: float
    seconds: float
    waiting_share: float


@dataclass(frozen=True)
class Result:
    """How a run ended: the best validation score, its epoch, and the number of epochs trained in all."""

    best_score: float
    best_epoch: int
    n_epochs: int


def fit(
    config: TrainConfig,
    task: Task,
    head: nn.Module,
    table: Table,
    validate: Callable[[nn.Module], float],
    folder: Path,
    device: torch.device,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> Result:
    """Train a head, from where `folder` stands: the first epoch, or the one after its last checkpoint.

    Everything random in an epoch is seeded by the config's seed and the epoch's number, so that a resumed run goes
    through the same steps as one that was never stopped.

    Args:
        table: the training videos.
        validate: gives the score to maximise; called with the head in eval mode after each epoch.
        folder: gets `best.safetensors`, `last.safetensors`, `metrics.jsonl` and TensorBoard's files.

    Raises:
        AbawError: the loss is not finite; the checkpoints of the last good epoch stay.
    """
    trainer = Trainer(config, task, head, table, device)
    progress = load_last(folder, head, trainer.optimizer)
    _forget_after(folder / METRICS, progress.epoch)
    writer = SummaryWriter(str(folder / "tensorboard"), purge_step=progress.epoch + 1)
    try:
        while progress.epoch < config.epochs and progress.epoch - progress.best_epoch < config.patience:
            number = progress.epoch + 1
            loss, seconds, waiting_s = trainer.run_epoch(number)
            head.eval()
            score = validate(head)
            better = score > progress.best_score
            progress = Progress(number, max(score, progress.best_score), number if better else progress.best_epoch)
            if better:
                save_tensors(folder / BEST, head.state_dict(), {"epoch": str(number), "score": repr(score)})
            epoch = Epoch(number, loss, score, trainer.lr, seconds, waiting_s / seconds)
            # before the checkpoint: a line too many is dropped on the way back, one too few would stay lost
            _record(folder / METRICS, writer, epoch)
            save_last(folder, head, trainer.optimizer, progress)
            on_epoch(epoch)
    finally:
        writer.close()
    return Result(progress.best_score, progress.best_epoch, progress.epoch)


class Trainer:
    """One head with its optimizer, loss and windows."""

    def __init__(self, config: TrainConfig, task: Task, head: nn.Module, table: Table, device: torch.device) -> None:
        self._config, self._head, self._device = config, head, device
        self._sampler = WindowSampler(table, config.window)
        self._loss = get_loss(config.loss or task.loss, task.kind)
        self._weights = _loss_weights(config, task, table, device)
        self._steps_per_epoch = math.ceil(self._sampler.n_windows(config.step) / config.batch_size)
        self.optimizer = torch.optim.AdamW(head.parameters(), lr=config.lr, weight_decay=config.weight_decay)
        self.lr = 0.0

    def run_epoch(self, number: int) -> tuple[float, float, float]:
        """Train one epoch (numbers start at 1): mean loss, seconds in all, seconds spent waiting for batches."""
        config = self._config
        self._head.train()
        torch.manual_seed(config.seed * 1_000_003 + number)
        losses, waiting_s = [], 0.0
        begin = before = time.perf_counter()
        batches = self._sampler.epoch(config.step, config.batch_size, (config.seed, number))
        for step, batch in enumerate(batches):
            moved = batch.to(self._device)
            waiting_s += time.perf_counter() - before
            # a random phase may add a window or two to an epoch; the schedule ends at its end all the same
            at = (number - 1) * self._steps_per_epoch + min(step, self._steps_per_epoch - 1)
            self.lr = learning_rate(config, at, self._steps_per_epoch * config.epochs)
            losses.append(self._step(moved.features, moved.mask, moved.labels, moved.valid))
            before = time.perf_counter()
        values = torch.stack(losses)
        if not values.isfinite().all():
            step = int((~values.isfinite()).nonzero()[0]) + 1
            raise AbawError(
                f"The loss is not finite at step {step} of epoch {number}. Lower lr (--set lr={config.lr / 10:g}); "
                "the last good checkpoint is kept."
            )
        return float(values.mean()), time.perf_counter() - begin, waiting_s

    def _step(self, features: dict[str, Tensor], mask: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._device.type == "cuda"):
            outputs = self._head(features, mask)
        loss = self._loss(outputs, labels, valid, self._weights)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self._head.parameters(), self._config.clip_norm)
        self.optimizer.step()
        return loss.detach()


def learning_rate(config: TrainConfig, step: int, n_steps: int) -> float:
    """Linear warm-up over the first `warmup` of the steps, then half a cosine down to 0. `step` counts from 0."""
    n_warm = config.warmup * n_steps
    if step < n_warm:
        return config.lr * (step + 1) / (n_warm + 1)
    return config.lr * 0.5 * (1 + math.cos(math.pi * (step - n_warm) / max(1.0, n_steps - n_warm)))


def _loss_weights(config: TrainConfig, task: Task, table: Table, device: torch.device) -> Tensor | None:
    labels, valid = torch.from_numpy(table.labels), torch.from_numpy(table.valid & table.present[:, None])
    if task.kind == "binary":
        return positive_weights(labels, valid).to(device)
    if task.kind == "classes" and config.class_weights:
        return class_weights(labels, valid, len(task.outputs)).to(device)
    return None


def _record(path: Path, writer: SummaryWriter, epoch: Epoch) -> None:
    with path.open("a") as file:
        file.write(json.dumps(vars(epoch)) + "\n")
    for name in ("loss", "score", "lr"):
        writer.add_scalar(name, getattr(epoch, name), epoch.epoch)
    writer.flush()


def _forget_after(path: Path, epoch: int) -> None:
    """Drop the lines of epochs that a resumed run goes through again, and one that was cut off while written."""
    lines = path.read_text().splitlines() if path.exists() else []
    kept = lines[:epoch]
    if len(kept) < len(lines):
        path.write_text("".join(f"{line}\n" for line in kept))
