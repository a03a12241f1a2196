"""Temporal heads: features of a window in, outputs of each frame or of the window out.

A head is an `nn.Module`: `forward(features, masks)` takes `{name: (batch, time, *shape)}` float and for each feature
a mask (batch, time) bool of the frames that have it, and returns (batch, time, outputs), or (batch, outputs) if its
`level` is `video`. Values at masked frames have no effect. If `inputs` is not None, set its statistics to the mean and
standard deviation of the training rows.

`linear`, `mlp`, `emma` and `difference` look at each frame alone, `lstm` and `mamba` also at earlier ones, `gru`,
`bilstm`, `tcn`, `encoder`, `transformer`, `transformer-lstm`, `gated` and `anchored` at all neighbours;
`cross-attention` and `mil` look at the whole window. `HeadConfig.is_causal` says this of a head with its options.
`ridge` and `logistic` are linear maps that scikit-learn solves.
"""

from collections.abc import Mapping, Sequence

from abaw.core.errors import UsageError
from abaw.train.head_options import HEADS, HeadConfig
from abaw.train.heads.inputs import Head


def create_head(config: HeadConfig, shapes: Mapping[str, tuple[int, ...]], groups: Sequence[int]) -> Head:
    """Build a head.

    Args:
        shapes: shape of one frame of each feature, by name.
        groups: sizes of the groups of outputs: (1, 1) for valence and arousal, (8,) for the logits of eight classes.
            Output layers with a hidden layer have a separate one for each group.

    Raises:
        UsageError: the head does not fit these features or outputs, or is none.
    """
    head = HEADS.builder(config.name)(config, shapes, groups)
    if not isinstance(head, Head):
        raise UsageError(
            f"{config.built_by} made a {type(head).__name__}, not a Head of abaw.train.heads.inputs. Derive it from that."
        )
    return head
