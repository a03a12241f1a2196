"""Absolute differences between projected features: ambivalence shows where face, voice and words disagree."""

from collections.abc import Mapping, Sequence
from itertools import combinations

import torch
from torch import Tensor, nn

from abaw.core.errors import UsageError
from abaw.train.fusion_options import DifferenceConfig
from abaw.train.heads.inputs import Head, JoinFeatures, Tensors
from abaw.train.heads.modalities import Modalities


class DifferenceHead(Head):
    """Projections, |a - b| of every two features side by side with them, one hidden layer, output.

    A difference with a missing feature is 0. Features are compared frame by frame, or by the means of their own frames
    over the window.
    """

    inputs: JoinFeatures

    def __init__(self, config: DifferenceConfig, shapes: Mapping[str, tuple[int, ...]], groups: Sequence[int]) -> None:
        if len(shapes) < 2:
            raise UsageError(
                f"Head 'difference' compares two or more features, found {', '.join(shapes)} alone. Add another with "
                "--feature, or choose --head mlp."
            )
        super().__init__(JoinFeatures(shapes))
        self.modalities = Modalities(config, shapes)
        self._differences = config.differences
        self._pairs = list(combinations(range(len(shapes)), 2)) if config.differences != "none" else []
        width = (len(shapes) + len(self._pairs)) * config.dim
        self.layers = nn.Sequential(
            nn.Dropout(config.dropout), nn.Linear(width, config.hidden), nn.ReLU(),
            nn.Dropout(config.dropout), nn.Linear(config.hidden, sum(groups)),
        )  # fmt: skip

    def forward(self, features: Tensors, masks: Tensors) -> Tensor:
        """(batch, time, outputs)."""
        tokens, shown = self.modalities(self.inputs, features, masks)
        parts = [tokens.flatten(2)]
        if self._differences == "window":
            tokens, shown = _means(tokens, shown)
        for first, second in self._pairs:
            both = (shown[:, :, first] & shown[:, :, second])[..., None]
            difference = (tokens[:, :, first] - tokens[:, :, second]).abs()
            parts.append(torch.where(both, difference, 0.0).expand(-1, parts[0].shape[1], -1))
        return self.layers(torch.cat(parts, dim=-1))


def _means(tokens: Tensor, shown: Tensor) -> tuple[Tensor, Tensor]:
    """Means of the shown frames of each feature, (batch, 1, features, dim), and whether there is one."""
    weights = shown[..., None].to(tokens.dtype)
    counts = weights.sum(dim=1, keepdim=True)
    return (tokens * weights).sum(dim=1, keepdim=True) / counts.clamp(min=1), shown.any(dim=1, keepdim=True)
