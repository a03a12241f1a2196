"""Hidden states of a transformer by their names: the last ones, those of one layer, the mean of the last few."""

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from abaw.core.errors import CheckpointError

LAST = "last"


def choose_states(outputs: Sequence[str], last: Tensor, hidden: Sequence[Tensor] | None) -> dict[str, Tensor]:
    """Outputs by name: `last`, `layer6` (`layer0` is what goes into the first), `last4` (the mean of the last four).

    Args:
        outputs: their names.
        last: the last states.
        hidden: what goes into the first layer, and the states after each; may be None if only `last` is wanted.
    """
    made = {}
    for name in outputs:
        number = _number(name)
        if number is None or hidden is None:
            made[name] = last
        elif name.startswith("layer"):
            made[name] = hidden[number]
        else:
            made[name] = torch.stack(list(hidden[-number:])).float().mean(dim=0)
    return made


def wants_layers(outputs: Sequence[str]) -> bool:
    """Whether an output needs more than the last states."""
    return any(name != LAST for name in outputs)


def check_layers(outputs: Sequence[str], n_layers: int, where: object) -> None:
    """Whether a network has the layers that are wanted.

    Raises:
        CheckpointError: it has not.
    """
    for name in outputs:
        number = _number(name) or 0
        if name.startswith("layer") and number > n_layers:
            raise CheckpointError(f"{where} has {n_layers} layers: take layer0 to layer{n_layers}, not {name}.")
        if number > n_layers + 1:
            raise CheckpointError(f"{where} has {n_layers} layers: take last2 to last{n_layers + 1}, not {name}.")


def _number(name: str) -> int | None:
    found = re.fullmatch(r"(?:layer|last)(\d+)", name)
    return int(found[1]) if found else None
