"""Checkpoints of a run: weights and the state to resume from. Files are replaced atomically."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from abaw.core.errors import CheckpointError
from abaw.core.files import writing
from abaw.core.json_files import parse_json, read_json
from abaw.core.state_dicts import find_problems, show_problems
from abaw.train import multi_process
from abaw.train.run_files import CONFIG, LAST, UNFINISHED
from abaw.train.training_precision import restore_scaler, scaler_tensors

# key prefixes in the last checkpoint, which holds all of them
MODEL, OPTIMIZER, AVERAGE, SCALER = "model.", "optimizer.", "average.", "scaler."
LOSSES, SUMS, RANDOM = "losses", "sums", "random."  # further keys and prefixes in that of an unfinished epoch
METADATA = "abaw"  # the only metadata key: safetensors writes several keys in random order


@dataclass(frozen=True)
class Progress:
    """Progress of a run: epochs finished, the best score so far and its epoch (from 1; 0 before the first).

    Attributes:
        n_drops: how often a plateau of the score has lowered the rate; 0 with other schedules.
        n_bad: epochs since the best score, or since the last drop; counted with the plateau schedule alone.
        parts: best score and epoch of each part of the task; see `abaw.train.scoring.part_measures`.
    """

    epoch: int = 0
    best_score: float = float("-inf")
    best_epoch: int = 0
    n_drops: int = 0
    n_bad: int = 0
    parts: Mapping[str, tuple[float, int]] = field(default_factory=dict)

    def scored(self, epoch: int, score: float, parts: Mapping[str, float] | None = None) -> "Progress":
        """The progress after a validation in an epoch; of equal scores the first is the best.

        Args:
            parts: scores of the parts of the task.
        """
        worst = (float("-inf"), 0)
        better = {
            part: (value, epoch) for part, value in (parts or {}).items() if value > self.parts.get(part, worst)[0]
        }
        is_better = score > self.best_score
        return replace(
            self,
            best_score=score if is_better else self.best_score,
            best_epoch=epoch if is_better else self.best_epoch,
            parts={**self.parts, **better},
        )

    def bests(self) -> dict[str, tuple[float, int]]:
        """Score and epoch of the best models, by the names of their files: `best`, `best-va` and so on."""
        parts = {f"best-{part}": best for part, best in self.parts.items()}
        return {"best": (self.best_score, self.best_epoch), **parts}

    def after(self, epoch: int, score: float, plateau: int | None = None) -> "Progress":
        """The progress once an epoch with this score is finished.

        Args:
            plateau: the rate drops after more than this many epochs without a better score (as in torch's
                `ReduceLROnPlateau`); None for other schedules.
        """
        progress = replace(self.scored(epoch, score), epoch=epoch)
        if plateau is None:
            return progress
        n_bad = 0 if progress.best_epoch == epoch else self.n_bad + 1
        if n_bad > plateau:
            return replace(progress, n_drops=self.n_drops + 1, n_bad=0)
        return replace(progress, n_bad=n_bad)

    def as_json(self) -> str:
        """Its numbers; those that few runs have only if there are any, as in checkpoints of earlier versions."""
        numbers = {"epoch": self.epoch, "best_score": self.best_score, "best_epoch": self.best_epoch}
        return json.dumps(numbers | {key: value for key, value in vars(self).items() if key not in numbers and value})

    @classmethod
    def from_json(cls, text: str) -> "Progress":
        """Read what `as_json` wrote."""
        values = parse_json(text)
        parts = {part: (float(score), int(epoch)) for part, (score, epoch) in values.pop("parts", {}).items()}
        return cls(**values, parts=parts)


@dataclass
class StepsTaken:
    """The steps of an epoch so far.

    Attributes:
        losses: of each step, without dimensions.
        seconds: that they took.
        waiting_s: seconds of these in which the model waited for data.
        random_states: of this process after these steps, as a checkpoint had them; None without one.
        scores: of validations within the epoch, by name, such as `score at 0.25`.
        progress: after the last of these validations; None without any.
        sums: over the outputs of these steps, as a checkpoint has them, see `abaw.train.scoring.OutputSums`; None if
            nothing measures them.
    """

    losses: list[Tensor] = field(default_factory=list)
    seconds: float = 0.0
    waiting_s: float = 0.0
    random_states: Mapping[str, Tensor] | None = None
    sums: Tensor | None = None
    scores: dict[str, float] = field(default_factory=dict)
    progress: Progress | None = None


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file atomically; equal content gives equal bytes."""
    contiguous = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    try:
        with writing(path) as partial:
            partial.write_bytes(save(contiguous, {METADATA: json.dumps(dict(metadata), sort_keys=True)}))
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be written ({error.strerror}). Free some space, then continue with `abaw train --resume`."
        ) from error


def _command_of(folder: Path) -> str:
    """The command that trains the run in a folder."""
    try:
        return "finetune" if read_json(folder / CONFIG)["config"].get("pixels") else "train"
    except (OSError, ValueError, KeyError, AttributeError, TypeError):  # no run, or a damaged one
        return "train"


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file, whether the metadata are one JSON value or separate keys.

    Raises:
        CheckpointError: the file is missing, damaged or not safetensors.
    """
    try:
        with safe_open(path, "pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            metadata = dict(file.metadata() or {})
            return tensors, parse_json(metadata[METADATA]) if METADATA in metadata else metadata
    except FileNotFoundError as error:
        raise CheckpointError(
            f"No checkpoint {path}: the run has not finished an epoch. Continue it with `abaw "
            f"{_command_of(path.parent)} --resume --run {path.parent.name}`, or choose another run."
        ) from error
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is not a complete safetensors file ({error}). Train again, or copy the file again."
        ) from error


def load_weights(model: nn.Module, path: Path) -> None:
    """Load a model's weights; every key must exist and have the right shape.

    Raises:
        CheckpointError: keys are missing, unexpected or of another shape; the first few are listed.
    """
    state, _ = load_tensors(path)
    load_state(model, state, path)


def load_state(model: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Load a state dict into a model; see `load_weights`."""
    problems = find_problems(state, {key: value.shape for key, value in model.state_dict().items()})
    if problems:
        raise CheckpointError(
            f"{path} does not fit the model in the config.json next to it: {show_problems(problems)}. "
            "Use both files from the same run."
        )
    model.load_state_dict(dict(state))


@dataclass(frozen=True)
class Learner:
    """What the steps of a training change.

    Attributes:
        model: takes the steps.
        optimizer: of its parameters.
        scaler: of its gradients.
        average: of its weights over the steps; None for none.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    average: AveragedModel | None = None

    @property
    def scored(self) -> nn.Module:
        """The model that is validated and kept: the average where there is one."""
        return self.model if self.average is None else self.average.module

    def tensors(self) -> dict[str, Tensor]:
        """All of its state, for a checkpoint."""
        tensors = {MODEL + key: value for key, value in self.model.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"{OPTIMIZER}{index}.{key}": torch.as_tensor(value) for key, value in state.items()}
        if self.average is not None:
            tensors |= {AVERAGE + key: value for key, value in self.average.state_dict().items()}
        return tensors | {SCALER + key: value for key, value in scaler_tensors(self.scaler).items()}

    def restore(self, tensors: Mapping[str, Tensor], path: Path) -> None:
        """Take the state of a checkpoint; raises a CheckpointError if it is of another model."""
        load_state(self.model, _under(MODEL, tensors), path)
        _restore_optimizer(self.optimizer, _under(OPTIMIZER, tensors), path)
        if self.average is not None:
            load_state(self.average, _under(AVERAGE, tensors), path)
        restore_scaler(self.scaler, _under(SCALER, tensors))


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def save_last(folder: Path, learner: Learner, progress: Progress) -> None:
    """Write all state and the progress: everything that `load_last` needs to resume exactly."""
    save_tensors(folder / LAST, learner.tensors(), {"progress": progress.as_json()})
    (folder / UNFINISHED).unlink(missing_ok=True)


def load_last(folder: Path, learner: Learner) -> Progress:
    """Restore what `save_last` wrote; a run without a finished epoch starts at the beginning."""
    if not (folder / LAST).exists():
        return Progress()
    tensors, metadata = load_tensors(folder / LAST)
    if "progress" not in metadata:
        raise CheckpointError(f"{folder / LAST} has no progress: the run cannot be resumed. Train it again.")
    learner.restore(tensors, folder / LAST)
    return Progress.from_json(metadata["progress"])


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], path: Path) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    keeps_state = optimizer.param_groups[0].get("momentum", 1) > 0  # SGD without momentum is stateless
    n_expected = sum(len(group["params"]) for group in optimizer.param_groups) if keeps_state else 0
    if len(state) != n_expected:
        raise CheckpointError(
            f"{path} has optimizer state for {len(state)} of {n_expected} parameters: the run cannot be resumed. "
            "Train it again."
        )
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def save_unfinished(folder: Path, learner: Learner, epoch: int, taken: StepsTaken, device: torch.device) -> None:
    """Write all that `load_unfinished` needs to continue after some steps of an epoch; every process calls this."""
    states = multi_process.from_all(_random_states(device))
    if multi_process.rank() == 0:
        tensors = learner.tensors() | {LOSSES: torch.stack(taken.losses)}
        if taken.sums is not None:
            tensors[SUMS] = taken.sums
        for rank, by_device in enumerate(states):
            tensors |= {f"{RANDOM}{rank}.{name}": state for name, state in by_device.items()}
        numbers = {"epoch": epoch, "seconds": taken.seconds, "waiting_s": taken.waiting_s}
        metadata = {"taken": json.dumps(numbers | ({"scores": taken.scores} if taken.scores else {}))}
        if taken.progress is not None:
            metadata["progress"] = taken.progress.as_json()
        save_tensors(folder / UNFINISHED, tensors, metadata)


def load_unfinished(folder: Path, learner: Learner, epoch: int, device: torch.device) -> StepsTaken | None:
    """Restore what `save_unfinished` wrote in an epoch; None if it wrote nothing, or if the epoch was finished.

    Also None where another number of processes, or another kind of device, wrote it: the epoch begins again.
    """
    path = folder / UNFINISHED
    if not path.exists():
        return None
    try:
        tensors, metadata = load_tensors(path)
    except CheckpointError as error:
        raise CheckpointError(f"{error} Or delete it to continue from the last epoch that was finished.") from error
    if "taken" not in metadata:
        raise CheckpointError(f"{path} does not say what was trained. Delete it to continue from the last epoch.")
    numbers = parse_json(metadata["taken"])
    random_keys = {f"{RANDOM}{rank}.{name}" for rank in range(multi_process.n_ranks()) for name in _kinds(device)}
    if numbers.pop("epoch") != epoch or {key for key in tensors if key.startswith(RANDOM)} != random_keys:
        return None
    learner.restore(tensors, path)
    losses = list(tensors[LOSSES].to(device).unbind())
    own = {name: tensors[f"{RANDOM}{multi_process.rank()}.{name}"] for name in _kinds(device)}
    progress = Progress.from_json(metadata["progress"]) if "progress" in metadata else None
    return StepsTaken(losses, **numbers, random_states=own, sums=tensors.get(SUMS), progress=progress)


def _kinds(device: torch.device) -> tuple[str, ...]:
    return ("cpu",) if device.type == "cpu" else ("cpu", device.type)


def _random_states(device: torch.device) -> dict[str, Tensor]:
    """States of the random number generators of this process."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def set_random_states(states: Mapping[str, Tensor], device: torch.device) -> None:
    """Set the random number generators to the states in `StepsTaken`."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)
    elif device.type == "mps":
        torch.mps.set_rng_state(states["mps"])
