"""Shared by heads: flattened, standardised and joined features; positions and attention masks."""

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

Tensors = Mapping[str, Tensor]


def any_mask(masks: Tensors) -> Tensor:
    """(batch, time) bool, True where a frame has at least one feature."""
    return torch.stack(list(masks.values())).any(dim=0)


def width_of(shape: tuple[int, ...]) -> int:
    """Values in one frame of a feature."""
    return int(torch.Size(shape).numel())


def positions(length: int, dim: int, device: torch.device) -> Tensor:
    """(length, dim) sine and cosine positions (Vaswani et al., 2017); `dim` is even."""
    time = torch.arange(length, device=device)[:, None]
    rate = torch.exp(torch.arange(0, dim, 2, device=device) * (-math.log(10_000.0) / dim))
    return torch.stack([torch.sin(time * rate), torch.cos(time * rate)], dim=-1).flatten(1)


def hidden_keys(shown: Tensor) -> Tensor:
    """(batch, time) bool, True for missing frames, which are not attended to, except in windows without any frame.

    A softmax over no keys would be NaN.
    """
    return ~shown & shown.any(dim=1, keepdim=True)


def shown_first(shown: Tensor) -> Tensor:
    """(batch, time) int64 order that puts the shown frames first, and keeps the order of these and of the others.

    A stable sort would do, but ONNX has none.
    """
    missing = ~shown
    places = torch.where(shown, shown.cumsum(dim=1), shown.sum(dim=1, keepdim=True) + missing.cumsum(dim=1)) - 1
    frames = torch.arange(shown.shape[1], device=shown.device).expand_as(places)
    return torch.zeros_like(places).scatter(1, places, frames)


class JoinFeatures(nn.Module):
    """(batch, time, *shape) of each feature -> (batch, time, width); missing features are zero.

    Each value is standardised by the mean and standard deviation of the training rows, which are saved with
    the head's weights: zero is the mean.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__()
        self.widths = {name: width_of(shape) for name, shape in shapes.items()}
        self.width = sum(self.widths.values())
        self.register_buffer("mean", torch.zeros(self.width))
        self.register_buffer("scale", torch.ones(self.width))

    def set_statistics(self, mean: Tensors, std: Tensors) -> None:
        """Set mean and standard deviation, (*shape) by feature. Constant values are set to zero."""
        self.mean = torch.cat([mean[name].flatten() for name in self.widths]).float()
        joined = torch.cat([std[name].flatten() for name in self.widths]).float()
        self.scale = torch.where(joined > 1e-6, 1 / joined.clamp(min=1e-6), 0.0)

    def forward(self, features: Tensors, masks: Tensors) -> Tensor:
        """Join the features of a batch."""
        joined = torch.cat([features[name].flatten(2) for name in self.widths], dim=-1)
        counts = torch.cat([masks[name][..., None].expand(-1, -1, width) for name, width in self.widths.items()], -1)
        return torch.where(counts, (joined - self.mean) * self.scale, 0.0)


class Head(nn.Module):
    """Base class of heads.

    Attributes:
        inputs: standardises the features; None for a head that takes them unchanged.
        level: `frame`, one output row for every frame, or `video`, one for the whole window.
        gives_both: of level `video`, with `window_and_frames`.
    """

    level: Literal["frame", "video"] = "frame"
    gives_both: ClassVar[bool] = False
    inputs: JoinFeatures | None

    # no class attribute as default: it would hide the module, which torch looks up only if there is no such attribute
    def __init__(self, inputs: JoinFeatures | None) -> None:
        super().__init__()
        self.inputs = inputs

    def give_frames(self) -> bool:
        """Prepare for a task of frames; False if the head gives outputs of whole windows alone."""
        return self.level == "frame"

    def window_and_frames(self, features: Tensors, masks: Tensors) -> tuple[Tensor, Tensor]:
        """Outputs of the whole window, (batch, outputs), and of its frames, (batch, time, outputs), where `gives_both`."""
        raise NotImplementedError(f"{type(self).__name__} gives one of the two")
