"""Temporal transformer with random frame masking (Min, Yang and Lim, CVPR workshops 2024)."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from abaw.train.head_options import TransformerConfig
from abaw.train.heads.inputs import Head, JoinFeatures, Tensors, any_mask, hidden_keys, positions


class TransformerHead(Head):
    """Projection, positions unless they are switched off, pre-norm transformer encoder, linear output.

    Missing and hidden frames are not attended to, but get an output from their neighbours. In a window without any
    frame all positions attend to the mask token.
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
        self._positions = config.positions
        self.dropout = nn.Dropout(config.dropout if config.input_dropout is None else config.input_dropout)
        self.output = nn.Linear(config.dim, sum(groups))

    def forward(self, features: Tensors, masks: Tensors) -> Tensor:
        """(batch, time, outputs)."""
        if self.training and self.mask_ratio > 0:
            any_feature = next(iter(masks.values()))
            visible = torch.rand(any_feature.shape, device=any_feature.device) >= self.mask_ratio
            masks = {name: mask & visible for name, mask in masks.items()}
        shown = any_mask(masks)
        tokens = self.project(self.inputs(features, masks))
        tokens = torch.where(shown[..., None], tokens, self.mask_token.to(tokens.dtype))
        if self._positions:
            tokens = tokens + positions(tokens.shape[1], tokens.shape[2], tokens.device)
        return self.output(self.encoder(self.dropout(tokens), src_key_padding_mask=hidden_keys(shown)))
