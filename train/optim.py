"""Optimizers and learning rates."""

import math
from collections.abc import Iterable

import torch
from torch import nn

from abaw.train.config import TrainConfig


def create_optimizer(config: TrainConfig, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer that a config names."""
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, config.lr, config.momentum, weight_decay=config.weight_decay)
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(parameters, config.lr, weight_decay=config.weight_decay)


def learning_rate(config: TrainConfig, step: int, n_steps: int) -> float:
    """Linear warm-up over the first `warmup` of the steps, then constant or half a cosine down to 0.

    Args:
        step: counts from 0.
    """
    n_warm = config.warmup * n_steps
    if step < n_warm:
        return config.lr * (step + 1) / (n_warm + 1)
    if config.schedule == "constant":
        return config.lr
    return config.lr * 0.5 * (1 + math.cos(math.pi * (step - n_warm) / max(1.0, n_steps - n_warm)))
