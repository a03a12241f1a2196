"""Options of the scikit-learn probes: linear maps of each frame, solved in closed form or by L-BFGS, not trained."""

from collections.abc import Mapping, Sequence

from abaw.train.head_options import LinearConfig, ProbeConfig
from abaw.train.heads.linear import LinearHead


class ProbeHead(LinearHead):
    """The linear map that a probe's solution is put into (`abaw.train.fit_probes`)."""

    def __init__(self, config: ProbeConfig, shapes: Mapping[str, tuple[int, ...]], groups: Sequence[int]) -> None:
        super().__init__(LinearConfig(), shapes, groups)
