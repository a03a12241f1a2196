"""The layers of an encoder, from its input to its output: their rates, which of them learn, and how."""

import re
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from abaw.backbones.vision.drop_path import set_drop_path
from abaw.train.finetune.batch_statistics import kept_statistics

# the names of repeated blocks in timm, in torchvision, in transformers, and in the networks of faces
BLOCK = re.compile(r"^(?:.*\.)?(?:blocks(?:\.\d+)+|layers?\d*\.\d+|stages\.\d+)(?=\.)")
WITHOUT_DECAY = ("pos_embed", "cls_token", "dist_token", "reg_token")  # besides tensors of one dimension
ADAPTED = re.compile(r"attn|attention|mlp|qkv|query|key|value|dense|fc\d|intermediate")  # maps that LoRA changes


def block_names(network: nn.Module) -> list[str]:
    """Names of the blocks that an encoder repeats, from its input on."""
    matches = (BLOCK.match(name) for name, _ in network.named_parameters())
    return list(dict.fromkeys(match[0] for match in matches if match))


def layer_numbers(network: nn.Module) -> dict[str, int]:
    """The number of the layer of each parameter: 0 before the first block, i + 1 in block i, n + 1 after the last.

    What is between two blocks belongs to the second.
    """
    blocks = block_names(network)
    numbers, current = {}, 0
    for name, _ in network.named_parameters():
        match = BLOCK.match(name)
        if match:
            current = blocks.index(match[0]) + 1
            numbers[name] = current
        else:
            numbers[name] = current and current + 1
    return numbers


def learns_decay(name: str, parameter: nn.Parameter) -> bool:
    """True if weight decay applies: not to tensors of one dimension, nor to positions and class tokens."""
    return parameter.ndim > 1 and name.rpartition(".")[2] not in WITHOUT_DECAY


def freeze_first(network: nn.Module, n_trained: int) -> None:
    """Let only the last blocks learn, so many, and what follows them."""
    first = len(block_names(network)) + 1 - n_trained
    numbers = layer_numbers(network)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(numbers[name] >= first)


def drop_paths(network: nn.Module, share: float) -> None:
    """Leave out residual branches in training: none of the first block, the share of the last, linearly between."""
    blocks = _blocks(network)
    for number, block in enumerate(blocks):
        set_drop_path(block, share * number / max(1, len(blocks) - 1))


def checkpoint_blocks(network: nn.Module) -> None:
    """Compute the activations within each block again for the gradient instead of keeping them."""
    for block in _blocks(network):
        block.forward = partial(_recomputed, block, block.forward)


def _recomputed(block: nn.Module, forward: Callable[..., Any], *inputs: Any, **options: Any) -> Any:
    if not (block.training and torch.is_grad_enabled()):
        return forward(*inputs, **options)
    contexts = lambda: (nullcontext(), kept_statistics(block))  # noqa: E731
    return checkpoint(forward, *inputs, use_reentrant=False, context_fn=contexts, **options)


def _blocks(network: nn.Module) -> list[nn.Module]:
    names = block_names(network)
    inner = [name for name in names if not any(other.startswith(f"{name}.") for other in names)]
    return [network.get_submodule(name) for name in inner]


class LoraLinear(nn.Module):
    """A linear map with a trained change of low rank (Hu et al., 2021), which begins at 0.

    Attributes:
        base: the map, which stays as it is.
        down, up: (rank, in) and (out, rank).
    """

    def __init__(self, base: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down = nn.Parameter(torch.empty(rank, base.in_features))
        self.up = nn.Parameter(torch.zeros(base.out_features, rank))
        self._scale = alpha / rank
        nn.init.kaiming_uniform_(self.down, a=5**0.5)

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., out)."""
        change = nn.functional.linear(nn.functional.linear(inputs, self.down), self.up)
        return cast(Tensor, self.base(inputs)) + self._scale * change

    def merged(self) -> Tensor:
        """(out, in) the weight with its change."""
        return self.base.weight + self._scale * self.up @ self.down


def add_lora(network: nn.Module, rank: int, alpha: float) -> None:
    """Freeze an encoder, and add a trained change to each linear map in its blocks."""
    network.requires_grad_(False)
    blocks = tuple(f"{name}." for name in block_names(network))
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.Linear) and name.startswith(blocks) and ADAPTED.search(name):
            parent, _, child = name.rpartition(".")
            setattr(network.get_submodule(parent), child, LoraLinear(module, rank, alpha))


def merged_state(network: nn.Module) -> dict[str, Tensor]:
    """The state dict of an encoder as it was before `add_lora`, with the changes added to its weights."""
    adapted = {name: module for name, module in network.named_modules() if isinstance(module, LoraLinear)}
    state = {}
    for key, value in network.state_dict().items():
        owner = next((name for name in adapted if key.startswith(f"{name}.")), None)
        if owner is None:
            state[key] = value
        elif key == f"{owner}.base.weight":
            state[f"{owner}.weight"] = adapted[owner].merged()
        elif key == f"{owner}.base.bias":
            state[f"{owner}.bias"] = value
    return state
