"""Temporal heads: features of a window in, outputs of each frame or of the window out.

A head is an `nn.Module`: `forward(features, masks)` takes `{name: (batch, time, *shape)}` float and for each feature
a mask (batch, time) bool of the frames that have it, and gives (batch, time, outputs), or (batch, outputs) if its
`level` is `video`. What stands at masked frames changes nothing. Where its `inputs` are not None they are to be given
the mean and standard deviation of the training rows.

`linear`, `mlp` and `emma` look at each frame alone, `gru`, `tcn`, `encoder` and `transformer` also at its neighbours;
`cross-attention` looks at the whole window. `ridge` and `logistic` are linear maps that scikit-learn solves.
"""

from collections.abc import Callable, Mapping, Sequence

from pydantic import BaseModel

from abaw.train.head_options import (
    CrossAttentionConfig,
    EmmaHeadConfig,
    EncoderConfig,
    GruConfig,
    HeadConfig,
    LinearConfig,
    LogisticConfig,
    MlpConfig,
    RidgeConfig,
    TcnConfig,
    TransformerConfig,
)
from abaw.train.heads.cross_attention import CrossAttentionHead
from abaw.train.heads.emma_head import EmmaHead
from abaw.train.heads.encoder_head import EncoderHead
from abaw.train.heads.gru import GruHead
from abaw.train.heads.inputs import Head
from abaw.train.heads.linear import LinearHead
from abaw.train.heads.mlp import MlpHead
from abaw.train.heads.probes import ProbeHead
from abaw.train.heads.tcn import TcnHead
from abaw.train.heads.transformer import TransformerHead

__all__ = [
    "HEADS",
    "CrossAttentionConfig",
    "EmmaHeadConfig",
    "EncoderConfig",
    "GruConfig",
    "Head",
    "HeadConfig",
    "LinearConfig",
    "LogisticConfig",
    "MlpConfig",
    "RidgeConfig",
    "TcnConfig",
    "TransformerConfig",
    "create_head",
]

HEADS: dict[str, tuple[type[BaseModel], Callable[..., Head]]] = {
    "transformer": (TransformerConfig, TransformerHead),
    "linear": (LinearConfig, LinearHead),
    "mlp": (MlpConfig, MlpHead),
    "gru": (GruConfig, GruHead),
    "tcn": (TcnConfig, TcnHead),
    "encoder": (EncoderConfig, EncoderHead),
    "emma": (EmmaHeadConfig, EmmaHead),
    "cross-attention": (CrossAttentionConfig, CrossAttentionHead),
    "ridge": (RidgeConfig, ProbeHead),
    "logistic": (LogisticConfig, ProbeHead),
}


def create_head(config: HeadConfig, shapes: Mapping[str, tuple[int, ...]], groups: Sequence[int]) -> Head:
    """Build a head.

    Args:
        shapes: of one frame of each feature, by name.
        groups: how many outputs it has, as the sizes of groups that belong together: (1, 1) for valence and arousal,
            (8,) for the logits of eight classes. A head with hidden layers at its end has them for each group.

    Raises:
        UsageError: the head does not fit these features or outputs.
    """
    return HEADS[config.name][1](config, shapes, groups)
