"""The modules that the options of the head and the loss build."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from abaw.train.heads.inputs import Head, JoinFeatures
from abaw_example.options import AbsoluteConfig, BlendConfig


class BlendHead(Head):
    """A linear map of each frame, blended with that of the frame before."""

    inputs: JoinFeatures

    def __init__(self, config: BlendConfig, shapes: Mapping[str, tuple[int, ...]], groups: Sequence[int]) -> None:
        super().__init__(JoinFeatures(shapes))
        self.share = config.share
        self.output = nn.Linear(self.inputs.width, sum(groups))

    def forward(self, features: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Tensor:
        """(batch, time, outputs)."""
        outputs = self.output(self.inputs(features, masks))
        before = torch.cat([outputs[:, :1], outputs[:, :-1]], dim=1)
        return (1 - self.share) * outputs + self.share * before


class AbsoluteLoss(nn.Module):
    """Mean absolute error over the valid labels."""

    def __init__(self, config: AbsoluteConfig, task: Any, labels: Any, valid: Any) -> None:
        super().__init__()
        self.factor = config.factor

    def forward(self, outputs: Tensor, labels: Tensor, valid: Tensor, progress: float) -> Tensor:
        """A scalar; see `abaw.train.losses.Loss`."""
        return self.factor * torch.where(valid, outputs - labels, 0).abs().sum() / valid.sum().clamp(min=1)
