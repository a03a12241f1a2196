"""Runs on disk: config, weights and the state to resume from, each file replaced whole."""

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

MODEL, OPTIMIZER = "model.", "optimizer."  # prefixes in the last checkpoint, which holds both
METADATA = "abaw"  # the only key of a file's metadata: safetensors writes several in a random order


@dataclass(frozen=True)
class Progress:
    """How far a run is: epochs finished, the best score so far and its epoch (from 1; 0 before the first)."""

    epoch: int = 0
    best_score: float = float("-inf")
    best_epoch: int = 0


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file so that the file is either the old or the new one; equal content is equal bytes."""
    whole = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    try:
        with writing(path) as partial:
            partial.write_bytes(save(whole, {METADATA: json.dumps(dict(metadata), sort_keys=True)}))
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be written ({error.strerror}). Make room, then go on with `abaw train --resume`."
        ) from error


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file, also of one that has each of its metadata under a key of its own.

    Raises:
        CheckpointError: no such file, or it is something else or damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            metadata = dict(file.metadata() or {})
            return tensors, json.loads(metadata[METADATA]) if METADATA in metadata else metadata
    except FileNotFoundError as error:
        raise CheckpointError(
            f"No checkpoint {path}: the run has not finished an epoch. Go on with it by `abaw train --resume --run "
            f"{path.parent.name}`, or name another run."
        ) from error
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is not a whole safetensors file ({error}). Train again, or copy it again from where it came."
        ) from error


def load_weights(model: nn.Module, path: Path) -> None:
    """Load a model's weights; every key must be there and fit.

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
            f"{path} does not fit the model that config.json beside it describes: {show_problems(problems)}. "
            "Use the two files of one run."
        )
    model.load_state_dict(dict(state))


def save_last(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
    """Write weights, optimizer state and progress: all that `load_last` needs to resume as if never stopped."""
    tensors = {MODEL + key: value for key, value in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"{OPTIMIZER}{index}.{key}": torch.as_tensor(value) for key, value in state.items()}
    save_tensors(folder / LAST, tensors, {"progress": json.dumps(vars(progress))})


def load_last(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> Progress:
    """Resume a run where `save_last` left it; a run that has not finished an epoch starts at the beginning."""
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
    keeps_state = optimizer.param_groups[0].get("momentum", 1) > 0  # SGD without momentum remembers nothing
    n_wanted = sum(1 for _ in model.parameters()) if keeps_state else 0
    if "progress" not in metadata or len(state) != n_wanted:
        raise CheckpointError(
            f"{folder / LAST} has optimizer state of {len(state)} of {n_wanted} parameters"
            f"{'' if 'progress' in metadata else ' and no progress'}: the run cannot be resumed. Train it again."
        )
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return Progress(**json.loads(metadata["progress"]))
