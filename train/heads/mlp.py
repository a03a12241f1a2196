"""A multilayer perceptron on each frame by itself."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from abaw.train.heads.inputs import Head, JoinFeatures, Tensors
from abaw.train.heads.options import Widths


class MlpConfig(BaseModel):
    """Options of the multilayer perceptron.

    Attributes:
        hidden: widths of the hidden layers.
        dropout: of what each layer takes in.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["mlp"] = "mlp"
    hidden: Widths = Field((256,), min_length=1)
    dropout: float = Field(0.3, ge=0, lt=1)


class MlpHead(Head):
    """Linear maps with ReLU between them, frame by frame."""

    inputs: JoinFeatures

    def __init__(self, config: MlpConfig, shapes: Mapping[str, tuple[int, ...]], groups: Sequence[int]) -> None:
        super().__init__(JoinFeatures(shapes))
        widths = (self.inputs.width, *config.hidden)
        layers: list[nn.Module] = []
        for width_in, width_out in pairwise(widths):
            layers += [nn.Dropout(config.dropout), nn.Linear(width_in, width_out), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Dropout(config.dropout), nn.Linear(widths[-1], sum(groups)))

    def forward(self, features: Tensors, masks: Tensors) -> Tensor:
        """(batch, time, outputs)."""
        return self.layers(self.inputs(features, masks))
