"""A recurrent network that reads the window in both directions."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from abaw.train.head_options import GruConfig
from abaw.train.heads.inputs import Head, JoinFeatures, Tensors, any_mask
from abaw.train.heads.recurrent import read_first


class GruHead(Head):
    """Projection, bidirectional gated recurrent units, linear output.

    A learned vector replaces a frame without any feature. The network reads a window up to its last frame with
    one, so that padding at the end of a window has no effect; later frames repeat that frame's outputs.
    """

    inputs: JoinFeatures

    def __init__(self, config: GruConfig, shapes: Mapping[str, tuple[int, ...]], groups: Sequence[int]) -> None:
        super().__init__(JoinFeatures(shapes))
        self.project = nn.Linear(self.inputs.width, config.dim)
        self.mask_token = nn.Parameter(nn.init.normal_(torch.empty(config.dim), std=0.02))
        between = config.dropout if config.layers > 1 else 0.0  # torch warns about dropout with a single layer
        self.gru = nn.GRU(config.dim, config.dim, config.layers, batch_first=True, dropout=between, bidirectional=True)
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(2 * config.dim, sum(groups))

    def forward(self, features: Tensors, masks: Tensors) -> Tensor:
        """(batch, time, outputs)."""
        shown = any_mask(masks)
        tokens = self.project(self.inputs(features, masks))
        tokens = self.dropout(torch.where(shown[..., None], tokens, self.mask_token.to(tokens.dtype)))
        steps = torch.arange(shown.shape[1], device=shown.device)
        last = (steps * shown).amax(dim=1, keepdim=True)
        states = read_first(self.gru, tokens, last[:, 0] + 1)
        read = torch.minimum(steps, last)[..., None].expand_as(states)
        return self.output(self.dropout(states.gather(1, read)))
