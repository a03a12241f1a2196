"""Dilated convolutions over time, with a residual around each (after Bai, Kolter and Koltun, 2018; not causal)."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from abaw.train.head_options import TcnConfig
from abaw.train.heads.inputs import Head, JoinFeatures, Tensors, any_mask


class TcnHead(Head):
    """Projection, residual convolutions with growing dilation, linear output.

    Frames without any feature are zero in every convolution, like the padding around the window; they still get an
    output, from their neighbours.
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
    """One dilated convolution, normalised over the channels of each frame, then a linear map of each frame."""

    def __init__(self, config: TcnConfig, dilation: int) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(config.dim, config.dim, config.kernel, padding="same", dilation=dilation)
        self.mix = nn.Sequential(
            nn.LayerNorm(config.dim), nn.ReLU(), nn.Dropout(config.dropout), nn.Linear(config.dim, config.dim)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, time, dim) -> (batch, time, dim)."""
        return self.mix(self.convolution(tokens.transpose(1, 2)).transpose(1, 2))
