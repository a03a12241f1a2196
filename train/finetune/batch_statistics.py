"""Batch normalisation of encoders in training, by statistics of the images of all processes.

torch's SyncBatchNorm does the same, but on GPUs alone.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from abaw.train import multi_process

COUNTED = "abaw_counted"  # attribute of a batch normalisation, see `count_images`


def batch_norms(network: nn.Module) -> Iterator[_BatchNorm]:
    """The modules that normalise by statistics of the batch in training."""
    return (module for module in network.modules() if isinstance(module, _BatchNorm))


def share_statistics(network: nn.Module) -> None:
    """Let batch normalisation in training take the statistics of all processes; one process needs two values at least."""
    for norm in batch_norms(network):
        module: nn.Module = norm
        module.forward = partial(_normalised, norm, norm.forward)


def count_images(network: nn.Module, counted: bool) -> None:
    """Say whether the images that a network sees next count in statistics, or only stand in for none."""
    for norm in batch_norms(network):
        setattr(norm, COUNTED, counted)


def _normalised(norm: _BatchNorm, forward: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
    """(n, channels, ...); fewer than two values of a channel have no variance, and take the running statistics."""
    if not norm.training or (multi_process.n_ranks() == 1 and values.numel() > values.shape[1]):
        return forward(values)
    dims = [0, *range(2, values.ndim)]
    shape = [1, -1] + [1] * (values.ndim - 2)
    own = values.float()
    counted = slice(None if getattr(norm, COUNTED, True) else 0)
    count = own.new_full((1,), own[counted].numel() // values.shape[1])
    totals = _sum_of_all(torch.cat([own[counted].sum(dims), count]))
    n = float(totals[-1])
    if n < 2:
        with _in_evaluation(norm):
            return forward(values)
    mean = totals[:-1] / n
    centred = own - mean.view(shape)
    variance = _sum_of_all(centred[counted].square().sum(dims)) / n
    _move_running(norm, mean.detach(), variance.detach() * n / (n - 1))
    normalised = centred * torch.rsqrt(variance + norm.eps).view(shape)
    if norm.affine:
        normalised = normalised * norm.weight.view(shape) + norm.bias.view(shape)
    return _activated(norm, normalised.to(values.dtype))


class _Sum(torch.autograd.Function):
    """The sum of a tensor over all processes; the gradient is the sum of their gradients."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


def _sum_of_all(values: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(values) if multi_process.n_ranks() > 1 else values
    return total


def _activated(norm: nn.Module, values: Tensor) -> Tensor:
    """What timm's batch normalisations do after it."""
    for name in ("drop", "act"):
        if isinstance(after := getattr(norm, name, None), nn.Module):
            values = after(values)
    return values


def _move_running(norm: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    if norm.running_mean is None or norm.running_var is None or norm.num_batches_tracked is None:
        return
    norm.num_batches_tracked += 1
    share = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean, share)
    norm.running_var.lerp_(variance, share)


@contextmanager
def kept_statistics(network: nn.Module) -> Iterator[None]:
    """Leave running statistics as they are, while activations that were computed before are computed again."""
    buffers = [(buffer, buffer.clone()) for norm in batch_norms(network) for buffer in norm.buffers()]
    try:
        yield
    finally:
        for buffer, before in buffers:
            buffer.copy_(before)


@contextmanager
def _in_evaluation(norm: nn.Module) -> Iterator[None]:
    norm.eval()
    try:
        yield
    finally:
        norm.train()
