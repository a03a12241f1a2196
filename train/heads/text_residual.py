"""Text-anchored fusion: what the text attends to in each other feature is added to it through a gate."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from abaw.core.errors import UsageError
from abaw.train.fusion_options import TextResidualConfig
from abaw.train.heads.inputs import Head, JoinFeatures, Tensors, hidden_keys, positions
from abaw.train.heads.modalities import Modalities


class TextResidualHead(Head):
    """Projections; for each other feature cross-attention from the text and a sigmoid gate; hidden layer, output.

    A frame in silence asks with the token of missing text. Frames without a feature are not attended to, and a feature
    that a window lacks adds nothing.
    """

    inputs: JoinFeatures

    def __init__(
        self, config: TextResidualConfig, shapes: Mapping[str, tuple[int, ...]], groups: Sequence[int]
    ) -> None:
        if config.text not in shapes:
            raise UsageError(
                f"Head 'text-residual' adds to the feature {config.text!r} (head.text), found {', '.join(shapes)}. Add "
                "that feature, or choose another with --set head.text=NAME."
            )
        super().__init__(JoinFeatures(shapes))
        self.modalities = Modalities(config, shapes)
        names = list(shapes)
        self._text = names.index(config.text)
        self._others = [i for i in range(len(names)) if i != self._text]
        dim = config.dim
        self.norm = nn.LayerNorm(dim)
        self.attentions = nn.ModuleList(
            nn.MultiheadAttention(dim, config.heads, config.dropout, batch_first=True) for _ in self._others
        )
        self.gates = nn.ModuleList(nn.Linear(2 * dim, 1) for _ in self._others)
        self.layers = nn.Sequential(
            nn.LayerNorm(dim), nn.Dropout(config.dropout), nn.Linear(dim, config.feedforward), nn.GELU(),
            nn.Dropout(config.dropout), nn.Linear(config.feedforward, sum(groups)),
        )  # fmt: skip

    def forward(self, features: Tensors, masks: Tensors) -> Tensor:
        """(batch, time, outputs)."""
        tokens, shown = self.modalities(self.inputs, features, masks)
        text = tokens[:, :, self._text]
        order = positions(text.shape[1], text.shape[2], text.device)
        queries, fused = self.norm(text) + order, text
        for i, attention, gate in zip(self._others, self.attentions, self.gates, strict=True):
            values, mask = tokens[:, :, i], shown[:, :, i]
            found, _ = attention(
                queries, values + order, values, key_padding_mask=hidden_keys(mask), need_weights=False
            )
            weight = torch.sigmoid(gate(torch.cat([text, found], dim=-1)))
            fused = fused + torch.where(mask.any(dim=1)[:, None, None], weight * found, 0.0)
        return self.layers(fused)
