"""Checkpoints of a run: weights and the state to resume from. Files are replaced atomically."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from abaw.core.errors import CheckpointError
from abaw.core.files import writing
from abaw.core.state_dicts import find_problems, show_problems
from abaw.train.run_files import LAST

MODEL, OPTIMIZER = "model.", "optimizer."  # key prefixes in the last checkpoint, which holds both
METADATA = "abaw"  # the only metadata key: safetensors writes several keys in random order


@dataclass(frozen=True)
class Progress:
    """Progress of a run: epochs finished, the best score so far and its epoch (from 1; 0 before the first)."""

    epoch: int = 0
    best_score: float = float("-inf")
    best_epoch: int = 0


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


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file, whether the metadata are one JSON value or separate keys.

    Raises:
        CheckpointError: the file is missing, damaged or not safetensors.
    """
    try:
        with safe_open(path, "pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            metadata = dict(file.metadata() or {})
            return tensors, json.loads(metadata[METADATA]) if METADATA in metadata else metadata
    except FileNotFoundError as error:
        raise CheckpointError(
            f"No checkpoint {path}: the run has not finished an epoch. Continue it with `abaw train --resume --run "
            f"{path.parent.name}`, or choose another run."
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


def save_last(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
    """Write weights, optimizer state and progress: everything that `load_last` needs to resume exactly."""
    tensors = {MODEL + key: value for key, value in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"{OPTIMIZER}{index}.{key}": torch.as_tensor(value) for key, value in state.items()}
    save_tensors(folder / LAST, tensors, {"progress": json.dumps(vars(progress))})


def load_last(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> Progress:
    """Restore what `save_last` wrote; a run without a finished epoch starts at the beginning."""
    if not (folder / LAST).exists():
        return Progress()
    tensors, metadata = load_tensors(folder / LAST)
    weights = {key.removeprefix(MODEL): value for key, value in tensors.items() if key.startswith(MODEL)}
    load_state(model, weights, folder / LAST)
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith(OPTIMIZER):
            index, name = key.removeprefix(OPTIMIZER).split(".", 1)
            state.setdefault(int(index), {})[name] = value
    keeps_state = optimizer.param_groups[0].get("momentum", 1) > 0  # SGD without momentum is stateless
    n_expected = sum(1 for _ in model.parameters()) if keeps_state else 0
    if "progress" not in metadata or len(state) != n_expected:
        raise CheckpointError(
            f"{folder / LAST} has optimizer state for {len(state)} of {n_expected} parameters"
            f"{'' if 'progress' in metadata else ' and no progress'}: the run cannot be resumed. Train it again."
        )
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return Progress(**json.loads(metadata["progress"]))
