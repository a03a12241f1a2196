"""Selective state spaces over the frames of a window (Mamba; Gu and Dao, 2023)."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from abaw.train.heads.inputs import Head, JoinFeatures, Tensors, any_mask, shown_first
from abaw.train.heads.selective_scan import selective_scan
from abaw.train.sequence_options import MambaConfig

LEAST_STEP, LARGEST_STEP = 0.001, 0.1  # of the initial weights, as published


class MambaHead(Head):
    """Projection, pre-norm residual Mamba layers, linear output.

    The layers read only the frames that have a feature, one after another. A frame without any repeats the frame that
    was read before it. Those before the first one are read as nothing, or, in both directions, repeat the first one.
    """

    inputs: JoinFeatures

    def __init__(self, config: MambaConfig, shapes: Mapping[str, tuple[int, ...]], groups: Sequence[int]) -> None:
        super().__init__(JoinFeatures(shapes))
        self.project = nn.Linear(self.inputs.width, config.dim)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.dim)
        self.output = nn.Linear(config.dim, sum(groups))
        self._bidirectional = config.bidirectional

    def forward(self, features: Tensors, masks: Tensors) -> Tensor:
        """(batch, time, outputs)."""
        shown = any_mask(masks)
        order = shown_first(shown)
        tokens = self.dropout(self.project(self.inputs(features, masks)))
        tokens = _take(tokens, order)
        for layer in self.layers:
            tokens = tokens + self.dropout(layer(tokens, shown.sum(dim=1)))
        number = shown.cumsum(dim=1) - 1  # of the frame read last
        states = _take(tokens, number.clamp(min=0))
        if not self._bidirectional:
            states = torch.where((number >= 0)[..., None], states, 0.0)
        return self.output(self.dropout(self.norm(states)))


class _Layer(nn.Module):
    def __init__(self, config: MambaConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.dim)
        self.forwards = MambaBlock(config)
        self.backwards = MambaBlock(config) if config.bidirectional else None

    def forward(self, tokens: Tensor, counts: Tensor) -> Tensor:
        """(batch, time, dim), of which the first (batch,) counts are frames -> (batch, time, dim)."""
        tokens = self.norm(tokens)
        if self.backwards is None:
            return self.forwards(tokens)
        steps = torch.arange(tokens.shape[1], device=tokens.device)
        mirrored = counts[:, None] - 1 - steps
        mirrored = torch.where(mirrored >= 0, mirrored, steps)  # its own inverse
        return self.forwards(tokens) + _take(self.backwards(_take(tokens, mirrored)), mirrored)


class MambaBlock(nn.Module):
    """(batch, time, dim) -> (batch, time, dim), where no frame sees a later one. Key names are those of mamba-ssm."""

    def __init__(self, config: MambaConfig) -> None:
        super().__init__()
        channels, self.states, self.rank = config.expand * config.dim, config.states, math.ceil(config.dim / 16)
        self.in_proj = nn.Linear(config.dim, 2 * channels, bias=False)
        self.conv1d = nn.Conv1d(channels, channels, config.kernel, groups=channels)
        self.x_proj = nn.Linear(channels, self.rank + 2 * config.states, bias=False)
        self.dt_proj = nn.Linear(self.rank, channels)
        nn.init.uniform_(self.dt_proj.weight, -(self.rank**-0.5), self.rank**-0.5)
        steps = torch.exp(torch.rand(channels) * math.log(LARGEST_STEP / LEAST_STEP) + math.log(LEAST_STEP))
        with torch.no_grad():
            self.dt_proj.bias.copy_(steps + torch.log(-torch.expm1(-steps)))  # softplus of this is `steps`
        self.A_log = nn.Parameter(torch.log(torch.arange(1.0, config.states + 1)).repeat(channels, 1))
        self.D = nn.Parameter(torch.ones(channels))
        self.out_proj = nn.Linear(channels, config.dim, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Compute one layer."""
        inputs, gate = self.in_proj(tokens).chunk(2, dim=-1)
        before = self.conv1d.kernel_size[0] - 1
        inputs = F.silu(self.conv1d(F.pad(inputs.transpose(1, 2), (before, 0)))).transpose(1, 2)
        step, write, read = self.x_proj(inputs).split([self.rank, self.states, self.states], dim=-1)
        steps = F.softplus(self.dt_proj(step).float())
        with torch.autocast(tokens.device.type, enabled=False):  # errors of a rounded state would add up
            outputs = selective_scan(inputs.float(), steps, -torch.exp(self.A_log), write.float(), read.float(), self.D)
        return self.out_proj(outputs.to(gate.dtype) * F.silu(gate))


def _take(values: Tensor, frames: Tensor) -> Tensor:
    """(batch, time, width) values at (batch, time) frames."""
    return values.gather(1, frames[..., None].expand(-1, -1, values.shape[2]))
