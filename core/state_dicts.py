"""Differences between a state dict and the one that a network expects."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Size, Tensor

SHOWN_KEYS = 3


def find_problems(state: "Mapping[str, Tensor]", expected: "Mapping[str, Size]") -> dict[str, list[str]]:
    """Lists of keys by problem: missing, unexpected or misshapen; empty if the state dict fits."""
    problems = {
        "missing": [key for key in expected if key not in state],
        "unexpected": [key for key in state if key not in expected],
        "misshapen": [
            f"{key} {tuple(state[key].shape)} instead of {tuple(shape)}"
            for key, shape in expected.items()
            if key in state and state[key].shape != shape
        ],
    }
    return {kind: keys for kind, keys in problems.items() if keys}


def show_problems(problems: Mapping[str, Sequence[str]]) -> str:
    """The first few of each kind: `2 missing (fc.weight, fc.bias); 1 unexpected (...)`."""
    return "; ".join(
        f"{len(keys)} {kind} ({', '.join(keys[:SHOWN_KEYS])}{', ...' if len(keys) > SHOWN_KEYS else ''})"
        for kind, keys in problems.items()
    )
