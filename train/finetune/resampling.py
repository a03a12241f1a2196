"""Resizing of uint8 images to the same bytes as Pillow, on any device."""

import math
from functools import lru_cache

import torch
from torch import Tensor

BITS = 22  # of the fraction of a weight
SUPPORT = {"bilinear": 1.0, "bicubic": 2.0}  # pixels to either side that a filter takes
SHARPNESS = -0.5  # of the cubic filter (Keys, 1981)


def resize_exactly(images: Tensor, sides: tuple[int, int], interpolation: str) -> Tensor:
    """Resize (..., height, width) uint8 images, antialiased; square ones get the bytes that Pillow gives.

    Rows come first, then columns, with weights of 22 bits and whole levels between. Pillow begins with the columns of
    some images that are higher than wide.
    """
    for dim, side in ((-1, sides[1]), (-2, sides[0])):
        if images.shape[dim] != side:
            images = _resize_dim(images, dim, *_taps(images.shape[dim], side, interpolation, images.device))
    return images.contiguous()


def _resize_dim(images: Tensor, dim: int, index: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums along a dimension; index and weights are (taps, pixels) of the new pixels."""
    shape = (-1, 1) if dim == -2 else (-1,)
    sums = torch.full((), 1 << (BITS - 1), dtype=torch.int32, device=images.device)
    for pixels, weight in zip(index, weights, strict=True):
        sums = sums + images.index_select(dim, pixels).int() * weight.view(shape)
    return (sums >> BITS).clamp_(0, 255).to(torch.uint8)


@lru_cache(maxsize=64)
def _taps(before: int, after: int, interpolation: str, device: torch.device) -> tuple[Tensor, Tensor]:
    """For each new pixel the old ones that it takes, and their weights in 1/2^22: (taps, after) int64 and int32."""
    scale = before / after
    stretch = max(scale, 1.0)
    reach = SUPPORT[interpolation] * stretch
    n_taps = 2 * math.ceil(reach) + 1
    index, weights = (torch.zeros(n_taps, after, dtype=dtype) for dtype in (torch.int64, torch.int32))
    for pixel in range(after):
        centre = (pixel + 0.5) * scale
        first, stop = max(0, int(centre - reach + 0.5)), min(before, int(centre + reach + 0.5))
        values = [_filter(interpolation, (x - centre + 0.5) / stretch) for x in range(first, stop)]
        total = sum(values)
        for tap, value in enumerate(values):
            share = value / total * (1 << BITS)
            index[tap, pixel], weights[tap, pixel] = first + tap, int(share + math.copysign(0.5, share))
    used = weights.any(dim=1)
    return index[used].to(device), weights[used].to(device)


def _filter(interpolation: str, distance: float) -> float:
    distance, a = abs(distance), SHARPNESS
    if interpolation == "bilinear":
        return max(0.0, 1.0 - distance)
    if distance < 1:
        return ((a + 2) * distance - (a + 3)) * distance * distance + 1
    return (((distance - 5) * distance + 8) * distance - 4) * a if distance < 2 else 0.0
