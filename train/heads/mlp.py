"""A multilayer perceptron on single frames."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from torch import Tensor, nn

from abaw.train.head_options import MlpConfig
from abaw.train.heads.inputs import Head, JoinFeatures, Tensors


class MlpHead(Head):
    """Linear maps with ReLU between them, frame by frame."""

    inputs: JoinFeatures

    def __init__(self, config: MlpConfig, shapes: Mapping[str, tuple[int, ...]], groups: Sequence[int]) -> None:
        super().__init__(JoinFeatures(shapes))
        widths = (self.inputs.width, *config.hidden)
        layers = hidden_layers(widths, config.dropout)
        self.layers = nn.Sequential(*layers, nn.Dropout(config.dropout), nn.Linear(widths[-1], sum(groups)))

    def forward(self, features: Tensors, masks: Tensors) -> Tensor:
        """(batch, time, outputs)."""
        return self.layers(self.inputs(features, masks))


def hidden_layers(widths: Sequence[int], dropout: float) -> list[nn.Module]:
    """Linear maps from each width to the next, with dropout before and ReLU after each."""
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise(widths):
        layers += [nn.Dropout(dropout), nn.Linear(width_in, width_out), nn.ReLU()]
    return layers
