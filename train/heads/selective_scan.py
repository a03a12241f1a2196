"""The selective scan of Mamba (Gu and Dao, 2023, algorithm 2), in plain torch or by the kernel of mamba-ssm."""

import importlib
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor


def selective_scan(inputs: Tensor, steps: Tensor, rates: Tensor, write: Tensor, read: Tensor, skip: Tensor) -> Tensor:
    """State h of each channel: h_t = exp(step_t * rate) h_(t-1) + step_t * write_t * input_t, from h = 0.

    The output is read_t . h_t + skip * input_t. Where mamba-ssm is installed, its kernel computes this on a GPU.

    Args:
        inputs: (batch, time, channels) float32.
        steps: (batch, time, channels) float32, positive.
        rates: (channels, states) float32, negative.
        write, read: (batch, time, states) float32.
        skip: (channels,) float32.

    Returns:
        (batch, time, channels) float32.
    """
    kernel = _kernel() if inputs.is_cuda else None
    if kernel is not None:
        series = (values.transpose(1, 2).contiguous() for values in (inputs, steps, write, read))
        by_channel, step_of, write_of, read_of = series
        return kernel(by_channel, step_of, rates.contiguous(), write_of, read_of, skip.float()).transpose(1, 2)
    # time first: unbinding it costs its gradient one pass, indexing it would cost one for every frame
    decay = torch.exp(steps.transpose(0, 1)[..., None] * rates)  # (time, batch, channels, states)
    added = ((steps * inputs)[..., None] * write[:, :, None]).transpose(0, 1)
    states = _scan_any_length(decay, added) if torch.onnx.is_in_onnx_export() else _scan(decay, added)
    return torch.einsum("tbcs,bts->btc", states, read) + skip * inputs


def _scan(decay: Tensor, added: Tensor) -> Tensor:
    """(time, batch, channels, states) of each frame: the state before it times `decay`, plus `added`."""
    state, states = torch.zeros_like(added[0]), []
    for kept, new in zip(decay.unbind(), added.unbind(), strict=True):
        state = kept * state + new
        states.append(state)
    return torch.stack(states)


def _scan_any_length(decay: Tensor, added: Tensor) -> Tensor:
    """The same as an operator that leaves the number of frames open; slower in torch."""
    from torch._higher_order_ops.scan import scan  # has no public name yet

    def step(state: Tensor, frame: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        state = frame[0] * state + frame[1]
        return state, state.clone()

    states: Tensor = scan(step, torch.zeros_like(added[0]), (decay, added), dim=0)[1]
    return states


@cache
def _kernel() -> Callable[..., Any] | None:
    """`selective_scan_fn` of mamba-ssm; None if that is not installed."""
    try:
        return importlib.import_module("mamba_ssm.ops.selective_scan_interface").selective_scan_fn
    except ImportError:
        return None
