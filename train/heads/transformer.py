"""Temporal transformer with random frame masking (Min, Yang and Lim, CVPR workshops 2024)."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from abaw.train.heads.attention import hidden_keys, positions
from abaw.train.heads.inputs import Head, JoinFeatures, Tensors, any_mask
from abaw.train.heads.options import MAX_LAYERS, MAX_WIDTH


class TransformerConfig(BaseModel):
    """Options of the transformer head.

    Attributes:
        dim, layers, heads, feedforward: sizes of the encoder.
        dropout: inside the encoder and on its input.
        mask_ratio: share of the frames that are hidden in training, drawn anew for every window.
        mask_token: what stands for a hidden or missing frame: one learned vector, or zeros.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["transformer"] = "transformer"
    dim: int = Field(128, ge=2, le=MAX_WIDTH, multiple_of=2)
    layers: int = Field(2, ge=1, le=MAX_LAYERS)
    heads: int = Field(4, ge=1)
    feedforward: int = Field(256, ge=1, le=MAX_WIDTH)
    dropout: float = Field(0.2, ge=0, lt=1)
    mask_ratio: float = Field(0.3, ge=0, lt=1)
    mask_token: Literal["learned", "zero"] = "learned"

    @model_validator(mode="after")
    def _heads_divide_dim(self) -> "TransformerConfig":
        if self.dim % self.heads:
            raise ValueError(f"head.dim ({self.dim}) must be a multiple of head.heads ({self.heads})")
        return self


class TransformerHead(Head):
    """Projection, positions, pre-norm transformer encoder, linear output.

    No frame attends to a missing or hidden one; these still get an output, from their neighbours. In a window
    without a single frame all of them attend to the mask token.
    """

    inputs: JoinFeatures
    mask_token: Tensor

    def __init__(self, config: TransformerConfig, shapes: Mapping[str, tuple[int, ...]], groups: Sequence[int]) -> None:
        super().__init__(JoinFeatures(shapes))
        self.mask_ratio = config.mask_ratio
        self.project = nn.Linear(self.inputs.width, config.dim)
        token = torch.zeros(config.dim)
        if config.mask_token == "learned":
            self.mask_token = nn.Parameter(nn.init.normal_(token, std=0.02))
        else:
            self.register_buffer("mask_token", token)
        layer = nn.TransformerEncoderLayer(
            config.dim, config.heads, config.feedforward, config.dropout, "gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(
            layer, config.layers, norm=nn.LayerNorm(config.dim), enable_nested_tensor=False
        )
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(config.dim, sum(groups))

    def forward(self, features: Tensors, masks: Tensors) -> Tensor:
        """(batch, time, outputs)."""
        if self.training and self.mask_ratio > 0:
            some = next(iter(masks.values()))
            kept = torch.rand(some.shape, device=some.device) >= self.mask_ratio
            masks = {name: mask & kept for name, mask in masks.items()}
        shown = any_mask(masks)
        tokens = self.project(self.inputs(features, masks))
        tokens = torch.where(shown[..., None], tokens, self.mask_token.to(tokens.dtype))
        tokens = self.dropout(tokens + positions(tokens.shape[1], tokens.shape[2], tokens.device))
        return self.output(self.encoder(tokens, src_key_padding_mask=hidden_keys(shown)))
