"""Checkpoints of DINOv3 (Siméoni et al., 2025) in the layout of transformers, converted to timm's."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

State = dict[str, Tensor]

# transformers' name -> timm's name
OUTSIDE = {
    "embeddings.cls_token": "cls_token",
    "embeddings.register_tokens": "reg_token",
    "embeddings.patch_embeddings.weight": "patch_embed.proj.weight",
    "embeddings.patch_embeddings.bias": "patch_embed.proj.bias",
    "norm.weight": "norm.weight",
    "norm.bias": "norm.bias",
}
IN_BLOCK = {
    "attention.q_proj.bias": "attn.q_bias",
    "attention.v_proj.bias": "attn.v_bias",
    "attention.o_proj.weight": "attn.proj.weight",
    "attention.o_proj.bias": "attn.proj.bias",
    "layer_scale1.lambda1": "gamma_1",
    "layer_scale2.lambda1": "gamma_2",
    "mlp.up_proj.weight": "mlp.fc1.weight",
    "mlp.up_proj.bias": "mlp.fc1.bias",
    "mlp.down_proj.weight": "mlp.fc2.weight",
    "mlp.down_proj.bias": "mlp.fc2.bias",
} | {f"{norm}.{name}": f"{norm}.{name}" for norm in ("norm1", "norm2") for name in ("weight", "bias")}
PROJECTIONS = tuple(f"attention.{name}_proj.weight" for name in "qkv")  # one matrix in timm
BLOCK = re.compile(r"(?:model\.)?layer\.(\d+)\.(.+)")
MASK = "embeddings.mask_token"  # used in training only


def from_transformers(state: Mapping[str, Tensor]) -> State:
    """A state dict of `DINOv3ViTModel`, under any prefix, with timm's keys; other state dicts are unchanged."""
    first = next((key for key in state if key.endswith("embeddings.patch_embeddings.weight")), None)
    if first is None:
        return dict(state)
    prefix = first.removesuffix("embeddings.patch_embeddings.weight")
    converted: State = {}
    projections: dict[str, State] = {}
    for whole, value in state.items():
        key = whole.removeprefix(prefix)
        block = BLOCK.fullmatch(key)
        if block is None:
            if key != MASK:
                converted[OUTSIDE.get(key, key)] = value
        elif block[2] in PROJECTIONS:
            projections.setdefault(block[1], {})[block[2]] = value
        else:
            converted[f"blocks.{block[1]}.{IN_BLOCK.get(block[2], block[2])}"] = value
    for number, parts in projections.items():
        if len(parts) == len(PROJECTIONS):
            converted[f"blocks.{number}.attn.qkv.weight"] = torch.cat([parts[name] for name in PROJECTIONS])
    return converted


def with_biases(state: Mapping[str, Tensor]) -> State:
    """A state dict in timm's layout with the biases of queries and values, which are 0 if a file lacks them."""
    converted = dict(state)
    for key, value in state.items():
        if key.endswith("attn.qkv.weight"):
            for name in ("q_bias", "v_bias"):
                converted.setdefault(key.replace("qkv.weight", name), value.new_zeros(value.shape[1]))
    return converted
