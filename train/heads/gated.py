"""Gated fusion: each feature weighed at each frame by a sigmoid of all of them (after Arevalo et al., 2017)."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from abaw.train.fusion_options import GatedConfig
from abaw.train.heads.inputs import Head, JoinFeatures, Tensors, hidden_keys, positions
from abaw.train.heads.modalities import Modalities


class GatedHead(Head):
    """Projections, gates, the weighed sum, a pre-norm transformer encoder unless it has no layers, linear output.

    A missing feature has a token of its own, whose weight the gate learns. Frames without any feature are not attended
    to, but get an output from their neighbours.
    """

    inputs: JoinFeatures

    def __init__(self, config: GatedConfig, shapes: Mapping[str, tuple[int, ...]], groups: Sequence[int]) -> None:
        super().__init__(JoinFeatures(shapes))
        self.modalities = Modalities(config, shapes)
        n_features = len(shapes)
        self.gate = nn.Linear(n_features * config.dim, n_features) if config.gate == "sigmoid" else None
        self.dropout = nn.Dropout(config.dropout)
        layer = nn.TransformerEncoderLayer(
            config.dim, config.heads, config.feedforward, config.dropout, "gelu", batch_first=True, norm_first=True
        )
        self.encoder = (
            nn.TransformerEncoder(layer, config.layers, enable_nested_tensor=False) if config.layers else None
        )
        self.norm = nn.LayerNorm(config.dim)
        self.output = nn.Linear(config.dim, sum(groups))

    def forward(self, features: Tensors, masks: Tensors) -> Tensor:
        """(batch, time, outputs)."""
        tokens, shown = self.modalities(self.inputs, features, masks)
        tokens = torch.tanh(tokens)
        fused = (tokens * self.gates(tokens)[..., None]).sum(dim=2)  # (batch, time, dim)
        fused = self.dropout(fused)
        if self.encoder is not None:
            fused = fused + positions(fused.shape[1], fused.shape[2], fused.device)
            fused = self.encoder(fused, src_key_padding_mask=hidden_keys(shown.any(dim=2)))
        return self.output(self.norm(fused))

    def gates(self, tokens: Tensor) -> Tensor:
        """(batch, time, features, dim) -> (batch, time, features) weights in [0, 1]; 1 without a gate."""
        if self.gate is None:
            return tokens.new_ones(tokens.shape[:3])
        return torch.sigmoid(self.gate(tokens.flatten(2)))
