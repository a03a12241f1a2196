"""Runs that begin with the weights of another run, or of a file."""

import hashlib
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from abaw.backbones.checkpoint_files import open_checkpoint
from abaw.core.errors import CheckpointError, UsageError
from abaw.core.state_dicts import find_problems, show_problems
from abaw.train.checkpoint import MODEL, load_tensors, save_tensors
from abaw.train.config import TrainConfig
from abaw.train.model import expected_state
from abaw.train.run_files import INITIAL
from abaw.train.runs import find_run

NESTED = ("state_dict", "model")  # where files of torch have the weights, if not at the top


@dataclass(frozen=True)
class InitialWeights:
    """Weights that a run begins with, in place of random ones.

    Attributes:
        source: file that they are from.
        sha256: of the file.
        tensors: by key, those that fit the run's model; among them the mean and deviation of its inputs.
        problems: how the others differ, in words; empty if all fit.
    """

    source: str
    sha256: str
    tensors: Mapping[str, Tensor]
    problems: str

    def record(self) -> dict[str, str]:
        """What the run keeps in its `config.json`."""
        return {"source": self.source, "sha256": self.sha256, "problems": self.problems}

    def write(self, folder: Path) -> None:
        """Keep them in a run's folder, from which the run takes them until it has a checkpoint of its own."""
        save_tensors(folder / INITIAL, self.tensors, self.record())


def read_initial_weights(
    source: str, runs: Path, config: TrainConfig, shapes: Mapping[str, tuple[int, ...]]
) -> InitialWeights:
    """Weights for a new run.

    Args:
        source: a file of safetensors or torch, or the name of a run (`RUN`, `RUN@best-va`), whose best model is taken.
        shapes: of one frame of each feature of the new run.

    Raises:
        UsageError: there is no such run or file, no tensor fits, or the head is not trained but solved.
        CheckpointError: the file is damaged.
    """
    if config.head.is_probe:
        raise UsageError(f"Head {config.head.name} is solved directly and has no use for --init. Leave it out.")
    path = Path(source)
    if not path.is_file():
        path = find_run(runs, source).checkpoint
        if not path.is_file():
            raise UsageError(
                f"Run {source} has no model yet. Continue it with `abaw train --resume --run {shlex.quote(source)}`."
            )
    state, expected = _read(path), expected_state(config, shapes)
    fitting = {key: value for key, value in state.items() if key in expected and value.shape == expected[key]}
    problems = show_problems(find_problems(state, expected))
    if not fitting:
        raise UsageError(f"No tensor of {path} fits the new head: {problems}. Choose its head and options with --set.")
    with path.open("rb") as file:
        return InitialWeights(str(path), hashlib.file_digest(file, "sha256").hexdigest(), fitting, problems)


def load_initial_weights(model: nn.Module, folder: Path) -> None:
    """Load the weights that a run begins with, if it has any."""
    if (folder / INITIAL).is_file():
        model.load_state_dict(load_tensors(folder / INITIAL)[0], strict=False)


def _read(path: Path) -> dict[str, Tensor]:
    """The model's tensors in a checkpoint; those of an optimizer are left out."""
    content: Any = open_checkpoint(path)
    for key in NESTED:
        content = content[key] if isinstance(content, dict) and isinstance(content.get(key), dict) else content
    tensors = {str(key): value for key, value in dict(content).items() if isinstance(value, Tensor)}
    if not tensors:
        raise CheckpointError(
            f"{path} has no tensors. It should be a .safetensors file or a state dict saved by torch."
        )
    if own := {key.removeprefix(MODEL): value for key, value in tensors.items() if key.startswith(MODEL)}:
        return own
    return tensors
