"""The training loop: windows in, a trained model and its checkpoints out."""

import json
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from abaw.core.errors import AbawError, CheckpointError, some_of
from abaw.core.files import writing
from abaw.core.tasks import Task
from abaw.train import multi_process
from abaw.train.checkpoint import Progress, load_last, save_last, save_tensors
from abaw.train.config import TrainConfig
from abaw.train.data.samples import Samples, counted_labels
from abaw.train.data.windows import WindowBatch, Windows, WindowSampler, batches
from abaw.train.losses import create_loss
from abaw.train.run_files import BEST, METRICS

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

SHOWN_VIDEOS = 3


@dataclass(frozen=True)
class Epoch:
    """The results of one epoch.

    Attributes:
        epoch: its number, from 1.
        loss: mean training loss of its steps.
        score: the task's measure on the validation split.
        lr: learning rate of its last step.
        seconds: of the training steps.
        waiting_share: share of `seconds` that the model waited for data.
    """

    epoch: int
    loss: float
    score: float
    lr: float
    seconds: float
    waiting_share: float


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended: the best validation score, its epoch, and the number of epochs trained in all."""

    best_score: float
    best_epoch: int
    n_epochs: int


def fit(
    config: TrainConfig,
    task: Task,
    model: nn.Module,
    samples: Samples,
    validate: Callable[[nn.Module], float],
    folder: Path,
    device: torch.device,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> TrainingResult:
    """Train a model from the first epoch, or from the one after the last checkpoint in `folder`.

    Everything random in an epoch is seeded by the config's seed and the epoch's number, so a resumed run takes the
    same steps as an uninterrupted one. Only the first process writes.

    Args:
        samples: the training videos.
        validate: returns the score to maximise, NaN if an output is not finite; called with the model in eval mode after
            each epoch.
        folder: gets `best.safetensors`, `last.safetensors`, `metrics.jsonl` and TensorBoard's files.

    Raises:
        AbawError: the loss, or an output, is not finite; the checkpoints of the last good epoch stay.
    """
    trainer = Trainer(config, task, model, samples, device)
    progress = load_last(folder, model, trainer.optimizer)
    multi_process.wait()  # until every process has read, before one writes
    log = Log(folder, progress.epoch) if multi_process.rank() == 0 else None
    try:
        while progress.epoch < config.epochs and progress.epoch - progress.best_epoch < config.patience:
            number = progress.epoch + 1
            loss, seconds, waiting_s = trainer.run_epoch(number)
            score = _validated(model, validate, config, number)
            better = score > progress.best_score
            progress = Progress(number, max(score, progress.best_score), number if better else progress.best_epoch)
            epoch = Epoch(number, loss, score, trainer.lr, seconds, waiting_s / seconds)
            if log is not None:
                if better:
                    save_tensors(folder / BEST, model.state_dict(), {"epoch": str(number), "score": repr(score)})
                # before the checkpoint: resuming drops an extra line but cannot restore a missing one
                log.add(epoch)
                save_last(folder, model, trainer.optimizer, progress)
            on_epoch(epoch)
    finally:
        if log is not None:
            log.close()
    return TrainingResult(progress.best_score, progress.best_epoch, progress.epoch)


def _validated(model: nn.Module, validate: Callable[[nn.Module], float], config: TrainConfig, number: int) -> float:
    """The score after epoch `number`; raises like `fit`."""
    model.eval()
    multi_process.same_buffers(model)
    score = validate(model)
    if not math.isfinite(score):
        raise AbawError(f"The model's outputs are not finite after epoch {number}. {_remedy(config)}")
    return score


class Trainer:
    """One model with its optimizer, loss and windows."""

    def __init__(
        self, config: TrainConfig, task: Task, model: nn.Module, samples: Samples, device: torch.device
    ) -> None:
        self._config, self._device = config, device
        self._model = multi_process.wrap(model, device)
        self._sampler = WindowSampler(samples, config.length)
        _, labels, valid = counted_labels(samples)
        self._loss = create_loss(config.loss, task, labels, valid).to(device)
        n_windows = self._sampler.n_windows(config.step, config.synthetic)
        self._steps_per_epoch = math.ceil(n_windows / config.batch_size)
        self.optimizer = create_optimizer(config, model.parameters())
        self.lr = 0.0

    def run_epoch(self, number: int) -> tuple[float, float, float]:
        """Train one epoch (numbers start at 1): mean loss, total seconds, seconds spent waiting for batches."""
        config = self._config
        self._model.train()
        torch.manual_seed(config.seed * 1_000_003 + number + 7_919 * multi_process.rank())
        windows = self._sampler.epoch(
            config.step, (config.seed, number), config.balance, config.synthetic, config.speed
        )
        losses, waiting_s = [], 0.0
        start = before = time.perf_counter()
        for step, batch_windows in enumerate(batches(windows, config.batch_size)):
            batch = self._sampler.batch(multi_process.process_share(batch_windows)).to(self._device)
            waiting_s += time.perf_counter() - before
            # a random phase may add a window or two to an epoch; the schedule still ends with the last epoch
            global_step = (number - 1) * self._steps_per_epoch + min(step, self._steps_per_epoch - 1)
            self.lr = learning_rate(config, global_step, self._steps_per_epoch * config.epochs)
            losses.append(self._step(batch, batch_windows, (number - 1) / config.epochs))
            before = time.perf_counter()
        values = torch.stack(losses)
        self._check_finite(values, windows, number)
        return float(values.mean()), time.perf_counter() - start, waiting_s

    def _step(self, batch: WindowBatch, windows: Windows, progress: float) -> Tensor:
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._device.type == "cuda"):
            outputs = self._model(batch.features, batch.masks)
        targets = batch.targets
        if multi_process.n_ranks() > 1:  # the loss covers the whole batch
            outputs = multi_process.gather(outputs, len(windows), outputs.ndim - targets.labels.ndim)
            targets = self._sampler.targets(windows).to(self._device)
        loss = self._loss(*targets.align(outputs.float()), progress)
        self.optimizer.zero_grad(set_to_none=True)
        # gradients are averaged over processes, but each process has only its share of the loss
        (loss * multi_process.n_ranks()).backward()
        nn.utils.clip_grad_norm_(self._model.parameters(), self._config.clip_norm)
        self.optimizer.step()
        return loss.detach()

    def _check_finite(self, losses: Tensor, windows: Windows, number: int) -> None:
        if losses.isfinite().all():
            return
        step = int((~losses.isfinite()).nonzero()[0])
        size = self._config.batch_size
        videos = np.unique(self._sampler.videos_of(windows[step * size : (step + 1) * size]))
        names = [self._sampler.samples.videos[video] for video in videos]
        raise AbawError(
            f"The loss is not finite at step {step + 1} of epoch {number}, with windows of "
            f"{some_of(names, SHOWN_VIDEOS)}. " + _remedy(self._config)
        )


def create_optimizer(config: TrainConfig, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer that a config names."""
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, config.lr, config.momentum, weight_decay=config.weight_decay)
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(parameters, config.lr, weight_decay=config.weight_decay)


def learning_rate(config: TrainConfig, step: int, n_steps: int) -> float:
    """Linear warm-up over the first `warmup` of the steps, then constant or half a cosine down to 0.

    Args:
        step: counts from 0.
    """
    n_warm = config.warmup * n_steps
    if step < n_warm:
        return config.lr * (step + 1) / (n_warm + 1)
    if config.schedule == "constant":
        return config.lr
    return config.lr * 0.5 * (1 + math.cos(math.pi * (step - n_warm) / max(1.0, n_steps - n_warm)))


def _remedy(config: TrainConfig) -> str:
    return f"Train a new run with a lower lr (--set lr={config.lr / 10:g}); the last good checkpoint is kept."


class Log:
    """Epochs in `metrics.jsonl` and, where it is installed, for TensorBoard.

    Lines of epochs that a resumed run repeats are dropped, and so is a truncated last line.
    """

    def __init__(self, folder: Path, n_epochs: int) -> None:
        self._path = folder / METRICS
        for path in (self._path, folder / "tensorboard"):
            if path.is_symlink():
                raise CheckpointError(
                    f"{path} is a symbolic link, and a run writes only into its own folder. Delete the link."
                )
        try:
            lines = self._path.read_text().splitlines() if self._path.exists() else []
        except (OSError, UnicodeDecodeError) as error:
            raise CheckpointError(f"{self._path} cannot be read ({error}). Delete it, or train again.") from error
        if len(lines) > n_epochs:
            with writing(self._path) as partial:
                partial.write_text("".join(f"{line}\n" for line in lines[:n_epochs]))
        self._writer = _tensorboard_writer(folder / "tensorboard", n_epochs + 1)

    def add(self, epoch: Epoch) -> None:
        """Log an epoch."""
        with self._path.open("a") as file:
            file.write(json.dumps(vars(epoch)) + "\n")
        if self._writer is None:
            return
        for name in ("loss", "score", "lr"):
            self._writer.add_scalar(name, getattr(epoch, name), epoch.epoch)
        self._writer.flush()

    def close(self) -> None:
        """Close the TensorBoard file."""
        if self._writer is not None:
            self._writer.close()


def _tensorboard_writer(folder: Path, first_epoch: int) -> "SummaryWriter | None":
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:  # the extra `track` is not installed
        return None
    return SummaryWriter(str(folder), purge_step=first_epoch)
