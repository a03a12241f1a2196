"""Groups of parameters of a fine-tuning, with their rates and weight decay."""

from collections.abc import Iterator
from typing import Any

from torch import nn

from abaw.train.finetune.finetune_config import FinetuneConfig
from abaw.train.finetune.layers import block_names, layer_numbers, learns_decay
from abaw.train.finetune.pixel_model import PixelModel

VA_HEAD = "va_head"  # the part of EMMA's head that gives valence and arousal


def parameter_groups(config: FinetuneConfig, model: nn.Module) -> list[dict[str, Any]]:
    """Groups for an optimizer: of each layer and of the head, with and without weight decay.

    The rate of layer i of an encoder with n blocks is `layer_decay ** (n + 1 - i)` of that of the last, see
    `layer_numbers` (ELECTRA, Clark et al., 2020; BEiT, Bao et al., 2022).
    """
    groups: dict[tuple[float, float, bool], dict[str, Any]] = {}
    for name, parameter, scale, constant in _parameters(config, model):
        if not parameter.requires_grad:
            continue
        decays = (config.decay_norms or learns_decay(name, parameter)) and not constant
        key = (scale, constant, decays)
        if key not in groups:
            rate = {"constant": constant} if constant else {"scale": scale}
            decay = {} if decays else {"weight_decay": 0.0}
            label = f"constant {constant:g}" if constant else f"{scale:.3g}"
            groups[key] = {"params": [], "name": f"{label}{'' if decays else ' without decay'}", **rate, **decay}
        groups[key]["params"].append(parameter)
    return list(groups.values())


def _parameters(config: FinetuneConfig, model: nn.Module) -> Iterator[tuple[str, nn.Parameter, float, float]]:
    """Name, parameter, scale of its rate, and constant rate, 0 for none."""
    assert isinstance(model, PixelModel), "the model of a fine-tuning"
    for network in model.encoders:
        numbers, last = layer_numbers(network), len(block_names(network)) + 1
        for name, parameter in network.named_parameters():
            yield name, parameter, config.layer_decay ** (last - numbers[name]), 0.0
    for name, parameter in model.heads.named_parameters():
        is_va = VA_HEAD in name.split(".")
        yield name, parameter, config.head_rate, config.va_rate if is_va else 0.0
