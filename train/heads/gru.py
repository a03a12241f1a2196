"""A recurrent network that reads the window in both directions."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from abaw.train.heads.inputs import Head, JoinFeatures, Tensors, any_mask
from abaw.train.heads.options import MAX_LAYERS, MAX_WIDTH


class GruConfig(BaseModel):
    """Options of the recurrent head.

    Attributes:
        dim: width of what enters the network, and of its state in each direction.
        layers: bidirectional layers.
        dropout: of the input of each layer and of the output.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["gru"] = "gru"
    dim: int = Field(128, ge=1, le=MAX_WIDTH)
    layers: int = Field(2, ge=1, le=MAX_LAYERS)
    dropout: float = Field(0.3, ge=0, lt=1)


class GruHead(Head):
    """Projection, bidirectional gated recurrent units, linear output.

    A learned vector stands for a frame without any feature. The network reads a window up to its last frame with
    one, so that padding at the end of a window changes nothing; frames after it get that frame's outputs.
    """

    inputs: JoinFeatures

    def __init__(self, config: GruConfig, shapes: Mapping[str, tuple[int, ...]], groups: Sequence[int]) -> None:
        super().__init__(JoinFeatures(shapes))
        self.project = nn.Linear(self.inputs.width, config.dim)
        self.mask_token = nn.Parameter(nn.init.normal_(torch.empty(config.dim), std=0.02))
        between = config.dropout if config.layers > 1 else 0.0  # torch warns of dropout between the layers of one
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
        packed = pack_padded_sequence(tokens, last[:, 0].cpu() + 1, batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.gru(packed)[0], batch_first=True, total_length=len(steps))
        read = torch.minimum(steps, last)[..., None].expand_as(states)
        return self.output(self.dropout(states.gather(1, read)))
