"""What every head begins with: features flattened, standardised and joined."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class JoinFeatures(nn.Module):
    """(batch, time, *shape) of each feature -> (batch, time, width), zero at masked frames.

    Each value is standardised by the mean and standard deviation of the training rows, which are kept with the
    head's weights.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__()
        self.shapes = dict(shapes)
        self.widths = {name: int(torch.Size(shape).numel()) for name, shape in shapes.items()}
        self.width = sum(self.widths.values())
        self.register_buffer("mean", torch.zeros(self.width))
        self.register_buffer("scale", torch.ones(self.width))

    def set_statistics(self, mean: Mapping[str, Tensor], std: Mapping[str, Tensor]) -> None:
        """Take mean and standard deviation, (*shape) of each feature. A value that never varies is left out."""
        self.mean = torch.cat([mean[name].flatten() for name in self.shapes]).float()
        joined = torch.cat([std[name].flatten() for name in self.shapes]).float()
        self.scale = torch.where(joined > 1e-6, 1 / joined.clamp(min=1e-6), 0.0)

    def forward(self, features: Mapping[str, Tensor], mask: Tensor) -> Tensor:
        """Join the features of a batch."""
        joined = torch.cat([features[name].flatten(2) for name in self.shapes], dim=-1)
        return torch.where(mask[..., None], (joined - self.mean) * self.scale, 0.0)


class Head(nn.Module):
    """Base of the heads; all that they share is how they begin."""

    inputs: JoinFeatures
