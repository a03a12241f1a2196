"""Hidden states of a transformer by name: the last ones, those of one layer, the mean of the last few."""

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from abaw.core.errors import CheckpointError

LAST = "last"


def choose_states(outputs: Sequence[str], last: Tensor, hidden: Sequence[Tensor] | None) -> dict[str, Tensor]:
    """Outputs by name: `last`, `layer6` (`layer0` is the input of the first layer), `last4` (the mean of the last four).

    Args:
        outputs: their names.
        last: the last states.
        hidden: the input of the first layer and the states after each; may be None if only `last` is needed.
    """
    states = {}
    for name in outputs:
        number = _number(name)
        if number is None or hidden is None:
            states[name] = last
        elif name.startswith("layer"):
            states[name] = hidden[number]
        else:
            states[name] = torch.stack(list(hidden[-number:])).float().mean(dim=0)
    return states


def wants_layers(outputs: Sequence[str]) -> bool:
    """Whether an output needs more than the last states."""
    return any(name != LAST for name in outputs)


def check_layers(outputs: Sequence[str], n_layers: int, where: object) -> None:
    """Check that a network has the layers that the outputs need.

    Raises:
        CheckpointError: it has fewer layers.
    """
    for name in outputs:
        number = _number(name) or 0
        if name.startswith("layer") and number > n_layers:
            raise CheckpointError(f"{where} has {n_layers} layers: use layer0 to layer{n_layers}, not {name}.")
        if number > n_layers + 1:
            raise CheckpointError(f"{where} has {n_layers} layers: use last2 to last{n_layers + 1}, not {name}.")


def _number(name: str) -> int | None:
    match = re.fullmatch(r"(?:layer|last)(\d+)", name)
    return int(match[1]) if match else None
