"""The training loop: windows in, a trained model and its checkpoints out."""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from abaw.core.claim_files import check_claims
from abaw.core.errors import AbawError, CheckpointError, UsageError, some_of
from abaw.core.files import link_or_copy, writing
from abaw.core.progress import Interrupted
from abaw.core.read_ahead import map_ahead
from abaw.core.system_errors import naming
from abaw.core.tasks import Task
from abaw.train import multi_process
from abaw.train.checkpoint import (
    Learner,
    Progress,
    StepsTaken,
    load_last,
    load_unfinished,
    save_last,
    save_tensors,
    save_unfinished,
    set_random_states,
)
from abaw.train.config import TrainConfig
from abaw.train.data.samples import Samples, counted_labels
from abaw.train.data.windows import Targets, WindowBatch, Windows, WindowSampler, batches
from abaw.train.event_file import EventFile
from abaw.train.finetune.mixing import Mixing, draw_mixing
from abaw.train.interrupts import Interrupts
from abaw.train.losses import Loss, create_loss
from abaw.train.rewinding import finish_rewind, sweep_checkpoints
from abaw.train.run_files import METRICS, SCORE_AT, WEIGHTS, kept_folder
from abaw.train.schedules import create_optimizer, learning_rate
from abaw.train.scoring import OnOutputs, OutputSums, ValidationLoss, ignore_outputs, part_measures
from abaw.train.training_precision import autocast, check_precision, create_scaler

LR = "lr"  # begins the names of the learning rates of groups of parameters
SHOWN_VIDEOS = 3
CHECKPOINT_S = 180.0  # between checkpoints within an epoch
STEPS_TOGETHER = 50  # several processes agree only so often on whether to write a checkpoint, or to stop

# model, and what takes its outputs -> `score` to maximise, NaN if an output is not finite, and further measures by name
Validation = Callable[[nn.Module, OnOutputs], Mapping[str, float]]


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
        measures: further measures by name: of the validation split, such as `CCC valence` and `val loss`, and of the
            outputs of the training steps, such as `train score` and `train CCC valence`.
    """

    epoch: int
    loss: float
    score: float
    lr: float
    seconds: float
    waiting_share: float
    measures: Mapping[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, float]:
        """All numbers by name; measures without a value are left out."""
        numbers = {name: value for name, value in vars(self).items() if name != "measures"}
        return numbers | {name: value for name, value in self.measures.items() if math.isfinite(value)}


@dataclass(frozen=True)
class Position:
    """How far a training is.

    Attributes:
        epoch: number of the current epoch, from 1.
        step: steps taken in it.
        n_steps: steps of an epoch; some have one or two more.
        progress: the epochs before, and the validations within this one.
    """

    epoch: int
    step: int
    n_steps: int
    progress: Progress


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
    validate: Validation,
    folder: Path,
    device: torch.device,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    on_step: Callable[[Position], None] = lambda position: None,
    sums: OutputSums | None = None,
) -> TrainingResult:
    """Train a model from the first epoch, or from the last checkpoint in `folder`.

    Everything random in an epoch is seeded by the config's seed and the epoch's number, and a checkpoint within an
    epoch has the state of the random numbers, so a resumed run takes the same steps as an uninterrupted one. Only the
    first process writes.

    Args:
        samples: the training videos.
        validate: called with the model in eval mode after each epoch.
        folder: gets `best.safetensors`, `last.safetensors`, `metrics.jsonl` and TensorBoard's files; within an epoch
            also `unfinished-epoch.safetensors`.
        on_step: called before the first step of an epoch, or of its rest, and after each step.
        sums: measures the outputs of training steps; None measures nothing.

    Raises:
        AbawError: the loss, or an output, is not finite; the checkpoints of the last good epoch stay.
        Interrupted: Ctrl-C or SIGTERM; the run continues from the same step.
    """
    trainer = Trainer(config, task, model, samples, device, sums)
    progress = load_last(folder, trainer.learner)
    started = load_unfinished(folder, trainer.learner, progress.epoch + 1, device)
    multi_process.wait()  # until every process has read, before one writes
    if multi_process.rank() == 0:
        sweep_checkpoints(folder)
    if started is None and multi_process.rank() == 0:
        finish_rewind(folder, progress.epoch)
    log = Log(folder, task, progress.epoch) if multi_process.rank() == 0 else None
    try:
        with Interrupts() as interrupts:
            keeper = _Keeper(folder, trainer, interrupts, device)
            progress = keeper.train(progress, started or StepsTaken(), validate, log, on_epoch, on_step)
            interrupts.check()
    except KeyboardInterrupt:
        raise Interrupted(folder.name) from None
    finally:
        if log is not None:
            log.close()
    return TrainingResult(progress.best_score, progress.best_epoch, progress.epoch)


class _Keeper:
    """Trains and validates epochs, and writes checkpoints: of the best models, of each epoch, and within epochs.

    Those within epochs are written every few minutes, and before a signal stops the training.
    """

    def __init__(self, folder: Path, trainer: "Trainer", interrupts: Interrupts, device: torch.device) -> None:
        self._folder, self._trainer, self._scored = folder, trainer, trainer.learner.scored
        self._interrupts, self._device = interrupts, device

    def train(
        self,
        progress: Progress,
        taken: StepsTaken,
        validate: Validation,
        log: "Log | None",
        on_epoch: Callable[[Epoch], None],
        on_step: Callable[[Position], None],
    ) -> Progress:
        """Train until the last epoch, or until patience ends; raises like `fit`.

        Args:
            taken: the steps that were taken in the first of these epochs.
        """
        config = self._trainer.config
        while not config.is_over(progress.epoch, progress.best_epoch):
            epoch, scored = self.train_and_validate(progress, taken, validate, on_step)
            taken = StepsTaken()
            progress = scored.after(epoch.epoch, epoch.score, config.plateau)
            if log is not None:
                # before the checkpoint: resuming drops an extra line but cannot restore a missing one
                log.add(epoch)
                self._save_epoch(progress)
            on_epoch(epoch)
        return progress

    def train_and_validate(
        self, progress: Progress, taken: StepsTaken, validate: Validation, on_step: Callable[[Position], None]
    ) -> tuple[Epoch, Progress]:
        """The epoch after those of `progress`, from the steps that were taken in it; raises like `fit`."""
        number, saved_at = progress.epoch + 1, time.monotonic()
        self._trainer.n_drops = progress.n_drops

        def show() -> None:
            on_step(Position(number, len(taken.losses), self._trainer.n_steps, taken.progress or progress))

        def after_step() -> None:
            nonlocal saved_at
            show()
            if (share := self._trainer.validated_after(len(taken.losses))) is not None:
                self._validate_within(number, share, taken, progress, validate)
            if multi_process.n_ranks() > 1 and len(taken.losses) % STEPS_TOGETHER:
                return
            self._stop_if_asked(number, taken)
            due = time.monotonic() - saved_at > CHECKPOINT_S
            if any(multi_process.from_all(due)):
                self._save(number, taken)
                saved_at = time.monotonic()

        show()
        self._interrupts.waiting = True  # a signal within a step would leave half of it
        loss = self._trainer.run_steps(number, taken, after_step)
        self._stop_if_asked(number, taken)
        try:
            self._interrupts.waiting = False
            self._interrupts.check()
            val_loss = self._trainer.validation_loss(number)
            measures = self._validated(validate, number, val_loss.add)
            measures |= {"val loss": val_loss.mean(), **self._trainer.measures(), **taken.scores}
            self._interrupts.waiting = True
        except KeyboardInterrupt:
            if multi_process.n_ranks() == 1:  # several do not stop at the same point
                self._save(number, taken)
            raise
        scored = self._keep_best(taken.progress or progress, number, measures)
        score, lr = measures.pop("score"), self._trainer.lr
        share = taken.waiting_s / taken.seconds
        return Epoch(number, loss, score, lr, taken.seconds, share, measures), scored

    def _validate_within(
        self, number: int, share: float, taken: StepsTaken, before: Progress, validate: Validation
    ) -> None:
        """Validate after a share of epoch `number`."""
        measures = self._validated(validate, number, ignore_outputs)
        self._trainer.learner.model.train()
        taken.scores[f"{SCORE_AT}{share:g}"] = measures["score"]
        taken.progress = self._keep_best(taken.progress or before, number, measures, share)
        if 0 < self._trainer.config.save_every < 1 and multi_process.rank() == 0:
            self._save_weights(number - 1 + share)

    def _validated(self, validate: Validation, number: int, on_outputs: OnOutputs) -> dict[str, float]:
        """The measures in epoch `number`; raises like `fit`."""
        self._scored.eval()
        multi_process.same_buffers(self._scored)
        measures = dict(validate(self._scored, on_outputs))
        if not math.isfinite(measures["score"]):
            remedy = _remedy(self._trainer.config)
            raise AbawError(f"The model's outputs are not finite after epoch {number}. {remedy}")
        return measures

    def _keep_best(self, before: Progress, number: int, measures: Mapping[str, float], share: float = 1.0) -> Progress:
        """Write the model to the files of the best ones that it beats.

        Args:
            share: of the epoch, after which it was validated.
        """
        chosen_by = part_measures(self._trainer.task)
        part_scores = {part: measures[name] for part, name in chosen_by.items() if name in measures}
        after = before.scored(number, measures["score"], part_scores)
        known = before.bests()
        for name, (score, _) in after.bests().items():
            if score > known.get(name, (float("-inf"), 0))[0] and multi_process.rank() == 0:
                within = {} if share == 1 else {"share": f"{share:g}"}
                metadata = {"epoch": str(number), "score": repr(score), **within}
                save_tensors(self._folder / f"{name}.safetensors", self._scored.state_dict(), metadata)
        return after

    def _save_epoch(self, progress: Progress) -> None:
        """Write the checkpoints of a finished epoch."""
        every, learner = self._trainer.config.save_every, self._trainer.learner
        if every and (every < 1 or progress.epoch % every == 0):
            kept = self._save_weights(progress.epoch)
            for best in self._folder.glob("best*.safetensors"):
                link_or_copy(best, kept / best.name)
            save_last(kept, learner, progress)
        save_last(self._folder, learner, progress)

    def _save_weights(self, epochs: float) -> Path:
        """Keep the model; the folder of its checkpoint."""
        kept = kept_folder(self._folder, epochs)
        kept.mkdir(parents=True, exist_ok=True)
        save_tensors(kept / WEIGHTS, self._scored.state_dict(), {"epoch": f"{epochs:g}"})
        return kept

    def _stop_if_asked(self, number: int, taken: StepsTaken) -> None:
        if any(multi_process.from_all(self._interrupts.pending)):
            self._save(number, taken)
            raise KeyboardInterrupt

    def _save(self, number: int, taken: StepsTaken) -> None:
        taken.sums = self._trainer.sums_so_far()
        save_unfinished(self._folder, self._trainer.learner, number, taken, self._device)


class Trainer:
    """One model with its optimizer, loss and windows.

    Attributes:
        learner: what the steps change.
        lr: learning rate of the last step.
        n_drops: how often a plateau has lowered the rate.
    """

    def __init__(
        self,
        config: TrainConfig,
        task: Task,
        model: nn.Module,
        samples: Samples,
        device: torch.device,
        sums: OutputSums | None = None,
    ) -> None:
        self.config, self.task, self._device, self._sums = config, task, device, sums
        self._model = multi_process.wrap(model, device)
        self._sampler = WindowSampler(samples, config.length, only_labelled=config.is_of_pixels)
        _, labels, valid = counted_labels(samples)
        self._loss = create_loss(config.loss, task, labels, valid).to(device)
        self._frame_loss = self._loss
        if samples.frame_labels is not None:  # weights of classes are those of frames
            frames, shown = samples.frame_labels, samples.present()[:, None]
            self._frame_loss = create_loss(config.loss, task, frames.labels, frames.valid & shown).to(device)
        n_windows = self._sampler.n_windows(
            config.step, config.synthetic, config.synthetic_draw, config.seed, config.clips_per_video
        )
        self.n_steps = math.ceil(n_windows / config.step_windows)  # a random phase may add a window or two to an epoch
        self.optimizer = create_optimizer(config, model)
        check_precision(config, device)
        average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.ema)) if config.ema else None
        self.learner = Learner(model, self.optimizer, create_scaler(config, device), average)
        self.lr, self.n_drops = 0.0, 0

    def run_epoch(self, number: int) -> tuple[float, float, float]:
        """Train one epoch (numbers start at 1): mean loss, total seconds, seconds spent waiting for batches."""
        taken = StepsTaken()
        loss = self.run_steps(number, taken)
        return loss, taken.seconds, taken.waiting_s

    def run_steps(
        self,
        number: int,
        taken: StepsTaken,
        after_step: Callable[[], None] = lambda: None,
    ) -> float:
        """Train the rest of epoch `number` (from 1); its mean loss.

        Args:
            taken: the steps taken before; those of the rest are added.
        """
        config = self.config
        self._model.train()
        if self._sums is not None:
            self._sums.set_state(taken.sums)
        torch.manual_seed(config.seed * 1_000_003 + number + 7_919 * multi_process.rank())
        if taken.random_states is not None:
            set_random_states(taken.random_states, self._device)
        windows = self._sampler.epoch(
            config.step,
            (config.seed, number),
            balance=config.balance,
            synthetic=config.synthetic,
            speed=config.speed,
            draw=config.synthetic_draw,
            phase=config.phase,
            clips_per_video=config.clips_per_video,
        )
        n_taken = len(taken.losses)
        self._set_rate(number, n_taken - 1)
        begin = time.perf_counter() - taken.seconds
        steps = list(batches(windows, config.step_windows))[n_taken:]
        read = self._read_ahead(steps)
        for step, step_windows in enumerate(steps, n_taken):
            self._set_rate(number, step)
            taken.losses.append(self._step(step_windows, read, number, taken))
            taken.seconds = time.perf_counter() - begin
            after_step()
            begin = time.perf_counter() - taken.seconds
        values = torch.stack(taken.losses)
        self._check_finite(values, windows, number)
        taken.seconds = time.perf_counter() - begin
        return float(values.mean())

    def _read_ahead(self, steps: Sequence[Windows]) -> Iterator[WindowBatch]:
        """This process's share of the windows of each forward pass, in order."""
        passes = [part for windows in steps for part in batches(windows, self.config.pass_windows)]
        shares = map(multi_process.process_share, passes)
        return map_ahead(self._sampler.batch, shares, self._sampler.samples.n_readers)

    def validation_loss(self, number: int) -> ValidationLoss:
        """The mean loss of the outputs that it is called with, as in epoch `number`."""
        progress = (number - 1) / self.config.epochs
        return ValidationLoss(self._loss, progress, self.config.n_branches, self._device)

    def validated_after(self, n_taken: int) -> float | None:
        """The share of an epoch after so many steps, if it is validated there and not only at its end."""
        n = self.config.n_evaluations
        shares = {math.ceil(number * self.n_steps / n): number / n for number in range(1, n)}
        return shares.get(n_taken) if n_taken < self.n_steps else None

    def measures(self) -> dict[str, float]:
        """By name, measures of the outputs of the epoch's steps, and learning rates of several groups of parameters."""
        groups = self.optimizer.param_groups
        rates = {f"{LR} {group['name']}": group["lr"] for group in groups if len(groups) > 1}
        return rates if self._sums is None else self._sums.measures() | rates

    def sums_so_far(self) -> Tensor | None:
        """Sums of these outputs, for a checkpoint."""
        return None if self._sums is None else self._sums.state()

    def _set_rate(self, number: int, step: int) -> None:
        # the schedule ends with the last epoch, whatever the number of its steps
        global_step = (number - 1) * self.n_steps + min(step, self.n_steps - 1)
        self.lr = learning_rate(self.config, global_step, self.n_steps * self.config.epochs, self.n_drops)
        for group in self.optimizer.param_groups:
            group["lr"] = group.get("constant", self.lr * group.get("scale", 1.0))

    def _step(self, windows: Windows, read: Iterator[WindowBatch], number: int, taken: StepsTaken) -> Tensor:
        """The mean loss of one step of epoch `number`, over the windows of its forward passes."""
        losses, passes = [], list(batches(windows, self.config.pass_windows))
        for part, pass_windows in enumerate(passes):
            began = time.perf_counter()
            batch = next(read).to(self._device)
            taken.waiting_s += time.perf_counter() - began
            mixing = draw_mixing(self.config, (self.config.seed, number, len(taken.losses), part))
            progress = (number - 1) / self.config.epochs
            share = len(pass_windows) / len(windows)
            losses.append(share * self._add_gradients(batch, pass_windows, progress, share, mixing))
        self._update()
        return torch.stack(losses).sum()

    def _add_gradients(
        self, batch: WindowBatch, windows: Windows, progress: float, share: float, mixing: Mixing | None = None
    ) -> Tensor:
        """The loss of one forward pass, whose gradients are added to those of the step.

        Args:
            share: of the step's windows that are in this pass.
        """
        with autocast(self.config, self._device):
            features = batch.features | (mixing.as_input(self._device) if mixing else {})
            outputs = self._model(features, batch.masks)
        targets = batch.targets
        if multi_process.n_ranks() > 1:  # the loss covers the whole batch
            axis = outputs.ndim - targets.labels.ndim - (targets.frames is not None)
            outputs = multi_process.gather(outputs, len(windows), axis)
            targets = self._sampler.targets(windows).to(self._device)
        if mixing is not None:
            targets = mixing.targets(targets, self.task, multi_process.n_ranks())
        outputs, frame_loss = self._apart(outputs.float(), targets, progress)
        aligned = targets.align(outputs)
        loss = _weighed(self._loss, targets.for_loss(aligned), progress, targets.loss_weights())
        if not isinstance(loss, Tensor) or loss.ndim:
            found = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
            raise UsageError(f"Loss {self.config.loss.name!r} gave {found}, not a tensor with one number. Correct it.")
        loss = loss + frame_loss
        if self._sums is not None:
            self._sums.add(*aligned)
        # gradients are averaged over processes, but each process has only its share of the loss
        self.learner.scaler.scale(loss * (multi_process.n_ranks() * share)).backward()
        return loss.detach()

    def _apart(self, outputs: Tensor, targets: Targets, progress: float) -> tuple[Tensor, Tensor | float]:
        """The outputs of the windows that `targets` label, and the weighed loss of those of their frames."""
        frames = targets.frames
        if frames is None:
            return outputs, 0.0
        whole, of_frames = outputs[..., 0, :], outputs[..., 1:, :]  # (..., 1 + time, outputs), see Model
        loss = _weighed(self._frame_loss, (of_frames, frames.labels, frames.valid), progress, frames.weights)
        return whole, self.config.frame_weight * loss

    def _update(self) -> None:
        learner = self.learner
        learner.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self._model.parameters(), self.config.clip_norm)
        learner.scaler.step(self.optimizer)
        learner.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if learner.average is not None:
            learner.average.update_parameters(learner.model)

    def _check_finite(self, losses: Tensor, windows: Windows, number: int) -> None:
        if losses.isfinite().all():
            return
        step = int((~losses.isfinite()).nonzero()[0])
        size = self.config.step_windows
        videos = np.unique(self._sampler.videos_of(windows[step * size : (step + 1) * size]))
        names = [self._sampler.samples.videos[video] for video in videos]
        raise AbawError(
            f"The loss is not finite at step {step + 1} of epoch {number}, with windows of "
            f"{some_of(names, SHOWN_VIDEOS)}. " + _remedy(self.config)
        )


def _weighed(loss: Loss, rows: tuple[Tensor, Tensor, Tensor], progress: float, weights: Tensor | None) -> Tensor:
    """The loss of outputs, labels and valid flags; those of plug-ins need not take weights."""
    return loss(*rows, progress) if weights is None else loss(*rows, progress, weights)


def _remedy(config: TrainConfig) -> str:
    return f"Train a new run with a lower lr (--set lr={config.lr / 10:g}); the last good checkpoint is kept."


class Log:
    """Epochs in `metrics.jsonl` and, where it is installed, for TensorBoard.

    Lines of epochs that a resumed run repeats are dropped, and so is a truncated last line.
    """

    def __init__(self, folder: Path, task: Task, n_epochs: int) -> None:
        self._path = folder / METRICS
        self._tags = {"loss": "train/loss", "lr": "train/learning rate", "score": f"val/{task.measure.name}"}
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
        self._events = _event_file(folder / "tensorboard", n_epochs + 1)

    def add(self, epoch: Epoch) -> None:
        """Log an epoch."""
        check_claims()
        with naming(self._path), self._path.open("a") as file:
            file.write(json.dumps(epoch.as_json()) + "\n")
        if self._events is None:
            return
        tags = self._tags | {name: _tag(name) for name in epoch.measures}
        for name, value in epoch.as_json().items():
            if name in tags:
                self._events.add_scalar(tags[name], value, epoch.epoch)
        self._events.flush()

    def close(self) -> None:
        """Close the TensorBoard file."""
        if self._events is not None:
            self._events.close()


def _tag(name: str) -> str:
    """The tag of a measure."""
    split, _, measure = name.partition(" ")
    if split == LR:
        return f"train/learning rate of {measure}"
    return f"{split}/{measure}" if split in ("train", "val") else f"val/{name}"


def _event_file(folder: Path, first_epoch: int) -> EventFile | None:
    try:
        return EventFile(folder, first_epoch)
    except ImportError:  # the extra `track` is not installed
        return None
