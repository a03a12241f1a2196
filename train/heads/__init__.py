"""Temporal heads: features of a window in, outputs of each frame out.

A head is an `nn.Module`: `forward(features, mask)` takes `{name: (batch, time, *shape)}` float and a mask
(batch, time) bool of the frames that are there, and gives (batch, time, outputs). What stands at masked frames
changes nothing.
"""

from collections.abc import Callable, Mapping
from typing import Annotated

from pydantic import BaseModel, Field

from abaw.train.heads.inputs import Head
from abaw.train.heads.linear import LinearConfig, LinearHead
from abaw.train.heads.transformer import TransformerConfig, TransformerHead

__all__ = ["HEADS", "Head", "HeadConfig", "LinearConfig", "TransformerConfig", "create_head"]

HeadConfig = Annotated[TransformerConfig | LinearConfig, Field(discriminator="name")]
HEADS: dict[str, tuple[type[BaseModel], Callable[..., Head]]] = {
    "transformer": (TransformerConfig, TransformerHead),
    "linear": (LinearConfig, LinearHead),
}


def create_head(
    config: TransformerConfig | LinearConfig, shapes: Mapping[str, tuple[int, ...]], n_outputs: int
) -> Head:
    """Build a head for features of the given shapes."""
    return HEADS[config.name][1](config, shapes, n_outputs)
