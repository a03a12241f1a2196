"""Reduces a window to equal segments: the mean of the frames of each, or its middle frame.

Frame t of a window of `length` frames lies in segment floor(t n_segments / length): 75 frames make 5 segments of 15.
A window shorter than `n_segments` has segments without a frame.
"""

import torch
from torch import Tensor


def average(values: Tensor, mask: Tensor, n_segments: int) -> tuple[Tensor, Tensor]:
    """Mean of the present frames of each segment.

    Args:
        values: (batch, time, width); finite.
        mask: (batch, time) bool.

    Returns:
        (batch, n_segments, width), zero for a segment without a present frame, and a mask of those that have one,
        (batch, n_segments) bool.
    """
    weights = (_inside(mask, n_segments) & mask[:, None]).to(values.dtype)
    counts = weights.sum(dim=2, keepdim=True)
    return weights / counts.clamp(min=1) @ values, counts[..., 0] > 0


def middle(values: Tensor, mask: Tensor, n_segments: int) -> tuple[Tensor, Tensor]:
    """The present frame nearest to the middle of each segment; the earlier one of a tie.

    Args:
        values: (batch, time, *shape).
        mask: (batch, time) bool.

    Returns:
        (batch, n_segments, *shape), arbitrary for a segment without a present frame, and a mask of those that have
        one, (batch, n_segments) bool.
    """
    inside = _inside(mask, n_segments)
    frames = torch.arange(mask.shape[1], device=mask.device)
    middles = (inside * frames).sum(dim=1, keepdim=True) / inside.sum(dim=1, keepdim=True).clamp(min=1)
    distances = torch.where(inside & mask[:, None], (frames - middles).abs(), torch.inf)
    nearest, indices = distances.min(dim=2)
    rows = torch.arange(len(mask), device=mask.device)[:, None]
    return values[rows, indices], nearest.isfinite()


def _inside(mask: Tensor, n_segments: int) -> Tensor:
    """(n_segments, time) bool: the frame lies in the segment."""
    frames, segments = (torch.arange(n, device=mask.device) for n in (mask.shape[1], n_segments))
    return frames * n_segments // len(frames) == segments[:, None]
