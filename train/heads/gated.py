"""Gated fusion: each feature weighed at each frame by a sigmoid of all of them (after Arevalo et al., 2017)."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from abaw.train.fusion_options import GatedConfig
from abaw.train.heads.inputs import Head, JoinFeatures, Tensors
from abaw.train.heads.modalities import FusedEncoder, Modalities


class GatedHead(Head):
    """Projections, gates, the weighed sum, a transformer encoder unless it has no layers, linear output.

    A missing feature has a token of its own, whose weight the gate learns. Frames without any feature are not attended
    to, but get an output from their neighbours.
    """

    inputs: JoinFeatures

    def __init__(self, config: GatedConfig, shapes: Mapping[str, tuple[int, ...]], groups: Sequence[int]) -> None:
        super().__init__(JoinFeatures(shapes))
        self.modalities = Modalities(config, shapes)
        self.gate = nn.Linear(len(shapes) * config.dim, len(shapes)) if config.gate == "sigmoid" else None
        self.encoder = FusedEncoder(config)
        self.output = nn.Linear(config.dim, sum(groups))

    def forward(self, features: Tensors, masks: Tensors) -> Tensor:
        """(batch, time, outputs)."""
        tokens, shown = self.modalities(self.inputs, features, masks)
        tokens = torch.tanh(tokens)
        if self.gate is not None:
            tokens = tokens * torch.sigmoid(self.gate(tokens.flatten(2)))[..., None]
        fused = tokens.sum(dim=2)  # (batch, time, dim)
        return self.output(self.encoder(fused, shown.any(dim=2)))
