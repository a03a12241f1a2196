"""Dilated convolutions over time, with a residual around each (after Bai, Kolter and Koltun, 2018; not causal)."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import Tensor, nn

from abaw.train.heads.inputs import Head, JoinFeatures, Tensors, any_mask
from abaw.train.heads.options import MAX_WIDTH


class TcnConfig(BaseModel):
    """Options of the convolutional head.

    Attributes:
        kernel: frames in a convolution, odd.
        layers: convolutions; layer i (from 0) takes every 2^i-th frame, so that an output sees
            (kernel - 1) (2^layers - 1) / 2 frames to either side.
        dim: channels.
        dropout: in each layer.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["tcn"] = "tcn"
    kernel: int = Field(3, ge=3, le=MAX_WIDTH)
    layers: int = Field(5, ge=1, le=16)
    dim: int = Field(128, ge=1, le=MAX_WIDTH)
    dropout: float = Field(0.3, ge=0, lt=1)

    @field_validator("kernel")
    @classmethod
    def _kernel_has_a_middle(cls, kernel: int) -> int:
        if kernel % 2 == 0:
            raise ValueError("must be odd, so that it has a middle")
        return kernel


class TcnHead(Head):
    """Projection, residual convolutions with growing dilation, linear output.

    To every convolution a frame without any feature is zero, like what lies beyond the window; such a frame still
    gets an output, gathered from its neighbours.
    """

    inputs: JoinFeatures

    def __init__(self, config: TcnConfig, shapes: Mapping[str, tuple[int, ...]], groups: Sequence[int]) -> None:
        super().__init__(JoinFeatures(shapes))
        self.project = nn.Linear(self.inputs.width, config.dim)
        self.blocks = nn.ModuleList(_Block(config, 2**i) for i in range(config.layers))
        self.norm = nn.LayerNorm(config.dim)
        self.output = nn.Linear(config.dim, sum(groups))

    def forward(self, features: Tensors, masks: Tensors) -> Tensor:
        """(batch, time, outputs)."""
        shown = any_mask(masks)[..., None]
        tokens = self.project(self.inputs(features, masks))
        for block in self.blocks:
            tokens = tokens + block(torch.where(shown, tokens, 0.0))
        return self.output(self.norm(tokens))


class _Block(nn.Module):
    """One dilated convolution, normalised over the channels of each frame, and a map of each frame."""

    def __init__(self, config: TcnConfig, dilation: int) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(config.dim, config.dim, config.kernel, padding="same", dilation=dilation)
        self.mix = nn.Sequential(
            nn.LayerNorm(config.dim), nn.ReLU(), nn.Dropout(config.dropout), nn.Linear(config.dim, config.dim)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, time, dim) -> (batch, time, dim)."""
        return self.mix(self.convolution(tokens.transpose(1, 2)).transpose(1, 2))
