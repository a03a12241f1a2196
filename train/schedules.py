"""Optimizers, and learning rates over a training."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from abaw.train.config import TrainConfig
from abaw.train.finetune.finetune_config import FinetuneConfig

WITHOUT_DECAY = "biases and norms"  # name of the group of parameters that never decay


def create_optimizer(config: TrainConfig, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer that a config names, for the parameters that learn.

    Without `decay_norms`, parameters of one dimension (biases, and the weights of normalisations) and scalars are a
    group of their own without weight decay, as in timm and in the code of EMMA and CoTEX. Groups of a fine-tuning may
    have a `scale`, by which the rate is multiplied, or a `constant` rate.
    """
    groups: Iterable[Any] = model.parameters()
    if isinstance(config, FinetuneConfig):
        from abaw.train.finetune.parameter_groups import parameter_groups  # loads torchvision, which takes seconds

        groups = parameter_groups(config, model)
    elif not config.decay_norms:
        listed = list(model.parameters())
        vectors = [parameter for parameter in listed if parameter.ndim <= 1]
        groups = [{"params": [parameter for parameter in listed if parameter.ndim > 1], "name": "weights"}]
        groups += [{"params": vectors, "name": WITHOUT_DECAY, "weight_decay": 0.0}]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, config.lr, config.momentum, weight_decay=config.weight_decay)
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, config.lr, config.betas, weight_decay=config.weight_decay)


def learning_rate(config: TrainConfig, step: int, n_steps: int, n_drops: int = 0) -> float:
    """The rate of a step: linear warm-up over the first `warmup` of the steps, then the config's schedule.

    With `lr_per = "epoch"` all steps of an epoch have the rate of its first one; the warm-up always grows by step.

    Args:
        step: counts from 0.
        n_steps: of all epochs.
        n_drops: how often a plateau has lowered the rate so far, see `abaw.train.checkpoint.Progress`.
    """
    n_warm, epochs = config.warmup * n_steps, config.epochs
    if isinstance(config, FinetuneConfig):
        step += 1 if config.lead == "step" else n_steps // epochs
        if step < n_warm:
            return config.lr * step / n_warm
        if config.lead == "step" and config.lr_per == "epoch":
            step -= 1  # else the last step of an epoch would have the rate of the next
    elif step < n_warm:
        return config.lr * (step + 1) / (n_warm + 1)
    if config.lr_per == "epoch":
        step = -(-(step * epochs // n_steps) * n_steps // epochs)
    since_warm = max(0.0, step - n_warm)
    n_epochs, share = since_warm * epochs / n_steps, since_warm / max(1.0, n_steps - n_warm)
    span = config.lr - config.min_lr
    if config.schedule == "cosine":
        return config.min_lr + span * 0.5 * (1 + math.cos(math.pi * share))
    if config.schedule == "cyclic-cosine":
        return config.min_lr + span * 0.5 * (1 + math.cos(math.pi * n_epochs / config.lr_epochs))
    if config.schedule == "linear":
        return config.min_lr + span * (1 - share)
    # 1e-9: rounding may leave n_epochs just below a whole number
    n_times = {
        "constant": 0.0,
        "exponential": n_epochs,
        "plateau": n_drops,
        "step": (n_epochs + 1e-9) // config.lr_epochs,
    }[config.schedule]
    return max(config.min_lr, config.lr * config.lr_factor**n_times)
