"""The post-norm transformer encoder of Situ-RUCAIM3 (CVPR workshops 2022) and V-NAW (ABAW8, 2025)."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from abaw.train.heads.inputs import Head, JoinFeatures, Tensors, any_mask, hidden_keys, positions
from abaw.train.sequence_options import PostNormConfig


class EncoderHead(Head):
    """1x1 convolutions, positions unless they are switched off, post-norm transformer encoder, output.

    Frames without any feature are not attended to, but get an output from their neighbours.
    """

    inputs: JoinFeatures

    def __init__(self, config: PostNormConfig, shapes: Mapping[str, tuple[int, ...]], groups: Sequence[int]) -> None:
        super().__init__(JoinFeatures(shapes))
        widths = (self.inputs.width, *config.convs)
        dim = widths[-1]
        # a 1x1 convolution over time is a linear map of each frame
        self.convs = nn.Sequential(*(nn.Linear(a, b) for a, b in pairwise(widths)))
        layer = nn.TransformerEncoderLayer(dim, config.heads, config.feedforward, config.dropout, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, config.layers, enable_nested_tensor=False)
        self._positions = config.positions
        self.dropout = nn.Dropout(config.dropout if config.input_dropout is None else config.input_dropout)
        self.outputs = nn.ModuleList(_Output(dim, config.output_hidden, n_outputs) for n_outputs in groups)

    def forward(self, features: Tensors, masks: Tensors) -> Tensor:
        """(batch, time, outputs)."""
        shown = any_mask(masks)
        tokens = self.encode(features, masks, shown)
        return torch.cat([output(tokens, shown) for output in self.outputs], dim=-1)

    def encode(self, features: Tensors, masks: Tensors, shown: Tensor) -> Tensor:
        """(batch, time, last of convs): what the outputs are computed from."""
        tokens = self.convs(self.inputs(features, masks))
        if self._positions:
            tokens = tokens + positions(tokens.shape[1], tokens.shape[2], tokens.device)
        return self.encoder(self.dropout(tokens), src_key_padding_mask=hidden_keys(shown))


class _Output(nn.Module):
    """The output layer of a group: one linear map, or two with batch normalisation between them."""

    def __init__(self, dim: int, hidden: int, n_outputs: int) -> None:
        super().__init__()
        # the normalisation would remove a bias
        self.hidden = nn.Linear(dim, hidden, bias=False) if hidden else None
        self.norm = FrameNorm(hidden) if hidden else None
        self.last = nn.Linear(hidden or dim, n_outputs)

    def forward(self, tokens: Tensor, shown: Tensor) -> Tensor:
        """(batch, time, n_outputs)."""
        if self.hidden is not None and self.norm is not None:
            tokens = self.norm(self.hidden(tokens), shown)
        return self.last(tokens)


class FrameNorm(nn.BatchNorm1d):
    """Batch normalisation over the frames of a batch, with statistics of only the frames that have a feature.

    All frames are normalised. A batch with fewer than two such frames has no variance: it is normalised by the running
    statistics and does not update them.
    """

    running_mean: Tensor
    running_var: Tensor

    def forward(self, values: Tensor, shown: Tensor) -> Tensor:  # type: ignore[override]
        """Normalise a batch.

        Args:
            values: (batch, time, width).
            shown: (batch, time) bool.
        """
        rows = values[shown].float()
        if not self.training or len(rows) < 2:
            mean, variance = self.running_mean, self.running_var
        else:
            variance, mean = torch.var_mean(rows, dim=0, correction=0)
            with torch.no_grad():
                super().forward(rows)  # updates the running statistics
        return (values - mean) * torch.rsqrt(variance + self.eps) * self.weight + self.bias
