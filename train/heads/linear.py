"""The simplest head: one linear map of each frame by itself."""

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from abaw.train.heads.inputs import Head, JoinFeatures, Tensors


class LinearConfig(BaseModel):
    """Options of the linear head.

    Attributes:
        dropout: of the input values.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["linear"] = "linear"
    dropout: float = Field(0.0, ge=0, lt=1)


class LinearHead(Head):
    """Dropout and a linear map, frame by frame."""

    inputs: JoinFeatures

    def __init__(self, config: LinearConfig, shapes: Mapping[str, tuple[int, ...]], groups: Sequence[int]) -> None:
        super().__init__(JoinFeatures(shapes))
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(self.inputs.width, sum(groups))

    def forward(self, features: Tensors, masks: Tensors) -> Tensor:
        """(batch, time, outputs)."""
        return self.output(self.dropout(self.inputs(features, masks)))
