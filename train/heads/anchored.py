"""Anchored fusion: what one feature, such as the text, attends to in each other feature is added to it through a gate."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from abaw.core.errors import UsageError
from abaw.train.fusion_options import AnchoredConfig
from abaw.train.heads.inputs import Head, JoinFeatures, Tensors, hidden_keys, positions
from abaw.train.heads.modalities import FusedEncoder, Modalities


class AnchoredHead(Head):
    """Projections; cross-attention from the anchor and a sigmoid gate for each other feature; encoder, linear output.

    A frame without the anchor, such as one in silence, asks with the token of the missing anchor. Frames without a
    feature are not attended to, and a feature that a window lacks adds nothing.
    """

    inputs: JoinFeatures

    def __init__(self, config: AnchoredConfig, shapes: Mapping[str, tuple[int, ...]], groups: Sequence[int]) -> None:
        if config.anchor not in shapes:
            raise UsageError(
                f"Head 'anchored' adds to the feature {config.anchor!r} (head.anchor), found {', '.join(shapes)}. Add "
                "that feature, or choose another with --set head.anchor=NAME."
            )
        super().__init__(JoinFeatures(shapes))
        self.modalities = Modalities(config, shapes)
        names, dim = list(shapes), config.dim
        self._anchor = names.index(config.anchor)
        self._others = [i for i in range(len(names)) if i != self._anchor]
        self.norm = nn.LayerNorm(dim) if self._others else None
        self.attentions = nn.ModuleList(
            nn.MultiheadAttention(dim, config.heads, config.dropout, batch_first=True) for _ in self._others
        )
        self.gates = nn.ModuleList(nn.Linear(2 * dim, 1) for _ in self._others) if config.residual == "gated" else None
        self.encoder = FusedEncoder(config)
        self.output = nn.Linear(dim, sum(groups))

    def forward(self, features: Tensors, masks: Tensors) -> Tensor:
        """(batch, time, outputs)."""
        tokens, shown = self.modalities(self.inputs, features, masks)
        anchor = tokens[:, :, self._anchor]
        fused = anchor
        if self.norm is not None:
            order = positions(anchor.shape[1], anchor.shape[2], anchor.device)
            queries = self.norm(anchor) + order
            for number, i in enumerate(self._others):
                values, mask = tokens[:, :, i], shown[:, :, i]
                attended, _ = self.attentions[number](
                    queries, values + order, values, key_padding_mask=hidden_keys(mask), need_weights=False
                )
                if self.gates is not None:
                    attended = attended * torch.sigmoid(self.gates[number](torch.cat([anchor, attended], dim=-1)))
                fused = fused + torch.where(mask.any(dim=1)[:, None, None], attended, 0.0)
        return self.output(self.encoder(fused, shown.any(dim=2)))
