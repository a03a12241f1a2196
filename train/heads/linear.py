"""One linear map of single frames: the simplest head, and the one that probes solve."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from abaw.train.head_options import LinearConfig, ProbeConfig
from abaw.train.heads.inputs import Head, JoinFeatures, Tensors


class LinearHead(Head):
    """Dropout and a linear map, frame by frame."""

    inputs: JoinFeatures

    def __init__(self, config: LinearConfig, shapes: Mapping[str, tuple[int, ...]], groups: Sequence[int]) -> None:
        super().__init__(JoinFeatures(shapes))
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(self.inputs.width, sum(groups))
        if config.std:
            nn.init.trunc_normal_(self.output.weight, std=config.std)
            nn.init.zeros_(self.output.bias)

    def forward(self, features: Tensors, masks: Tensors) -> Tensor:
        """(batch, time, outputs)."""
        return self.output(self.dropout(self.inputs(features, masks)))


class ProbeHead(LinearHead):
    """The linear map that holds the solution of a probe (`abaw.train.fit_probes`)."""

    def __init__(self, config: ProbeConfig, shapes: Mapping[str, tuple[int, ...]], groups: Sequence[int]) -> None:
        super().__init__(LinearConfig(), shapes, groups)
