"""Recurrent networks over the first frames of each window: packed by torch, or as operators of ONNX."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

Recurrent = nn.LSTM | nn.GRU
GATES = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2)}  # in the order of ONNX: numbers of torch's


def read_first(network: Recurrent, tokens: Tensor, counts: Tensor) -> Tensor:
    """States of a network that reads the first frames of each window, and stops there.

    Args:
        network: `batch_first`, in one or both directions.
        tokens: (batch, time, width).
        counts: (batch,) int64, frames to read, at least 1.

    Returns:
        (batch, time, states), zero after the last frame that was read.
    """
    if torch.onnx.is_in_onnx_export():
        return _as_operators(network, tokens, counts)
    packed = pack_padded_sequence(tokens, counts.cpu(), batch_first=True, enforce_sorted=False)
    states: Tensor = pad_packed_sequence(network(packed)[0], batch_first=True, total_length=tokens.shape[1])[0]
    return states


def _as_operators(network: Recurrent, tokens: Tensor, counts: Tensor) -> Tensor:
    """The same, where torch can neither pack sequences nor leave their length open."""
    kind, hidden = type(network).__name__, network.hidden_size
    both = network.bidirectional
    attributes: dict[str, Any] = {"hidden_size": hidden, "direction": "bidirectional" if both else "forward"}
    if kind == "GRU":
        attributes["linear_before_reset"] = 1
    states = tokens.transpose(0, 1)  # (time, batch, width)
    for layer in range(network.num_layers):
        endings = [f"_l{layer}{direction}" for direction in ("", "_reverse")[: 1 + both]]
        inputs, recurrent = (
            torch.stack([_in_order(getattr(network, f"weight_{part}{end}"), kind) for end in endings])
            for part in ("ih", "hh")
        )
        biases = torch.stack(
            [torch.cat([_in_order(getattr(network, f"bias_{part}{end}"), kind) for part in ("ih", "hh")])
             for end in endings]
        )  # fmt: skip
        shape = (states.shape[0], len(endings), states.shape[1], hidden)
        read = torch.onnx.ops.symbolic(
            kind, (states, inputs, recurrent, biases, counts.int()), attributes, dtype=states.dtype, shape=shape
        )
        states = read.permute(0, 2, 1, 3).flatten(2)
    return states.transpose(0, 1)


def _in_order(values: Tensor, kind: str) -> Tensor:
    """Weights or biases (gates * hidden, ...) with the gates in the order of ONNX."""
    gates = values.chunk(len(GATES[kind]))
    return torch.cat([gates[number] for number in GATES[kind]])
