"""Stochastic depth (Huang et al., 2016): residual branches that are left out in training."""

from torch import nn

NAMES = ("drop_path", "drop_path1", "drop_path2")  # in blocks of timm


def set_drop_path(block: nn.Module, share: float) -> None:
    """Leave out the residual branches of a block for a share of the images in training; nothing in blocks without them."""
    from timm.layers import DropPath  # every training imports this module, and timm takes seconds

    for name in NAMES:
        if isinstance(getattr(block, name, None), nn.Identity | DropPath):
            setattr(block, name, DropPath(share) if share else nn.Identity())
