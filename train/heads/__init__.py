"""Temporal heads: features of a window in, outputs of each frame or of the window out.

A head is an `nn.Module`: `forward(features, masks)` takes `{name: (batch, time, *shape)}` float and for each feature
a mask (batch, time) bool of the frames that have it, and gives (batch, time, outputs), or (batch, outputs) if its
`level` is `video`. Values at masked frames change nothing. If its `inputs` are not None, they
must be given the mean and standard deviation of the training rows.

`linear`, `mlp` and `emma` look at each frame alone, `gru`, `tcn`, `encoder` and `transformer` also at its neighbours;
`cross-attention` looks at the whole window. `ridge` and `logistic` are linear maps that scikit-learn solves.
"""

from collections.abc import Mapping, Sequence

from abaw.train.head_options import HEADS, HeadConfig
from abaw.train.heads.inputs import Head


def create_head(config: HeadConfig, shapes: Mapping[str, tuple[int, ...]], groups: Sequence[int]) -> Head:
    """Build a head.

    Args:
        shapes: of one frame of each feature, by name.
        groups: how many outputs it has, as the sizes of groups that belong together: (1, 1) for valence and arousal,
            (8,) for the logits of eight classes. A head with hidden layers at its end has them for each group.

    Raises:
        UsageError: the head does not fit these features or outputs.
    """
    head = HEADS.builder(config.name)(config, shapes, groups)
    if not isinstance(head, Head):
        raise TypeError(f"{config.built_by} made a {type(head).__name__}, not a Head")
    return head
