"""What the heads with attention share."""

import math

import torch
from torch import Tensor


def positions(length: int, dim: int, device: torch.device) -> Tensor:
    """(length, dim) sine and cosine positions (Vaswani et al., 2017); `dim` is even."""
    time = torch.arange(length, device=device)[:, None]
    rate = torch.exp(torch.arange(0, dim, 2, device=device) * (-math.log(10_000.0) / dim))
    return torch.stack([torch.sin(time * rate), torch.cos(time * rate)], dim=-1).flatten(1)


def hidden_keys(shown: Tensor) -> Tensor:
    """(batch, time) bool, True where no frame may attend to: missing frames, but none of a window that has only these.

    Softmax over no key at all would be NaN.
    """
    return ~shown & shown.any(dim=1, keepdim=True)
