"""AreaMeans from which detectors cut and shrink by averaging areas, as `interpolate(..., mode="area")` of torch does it."""

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

Corners = tuple[NDArray[np.int64], ...]  # left, top, right, bottom: (k,) each; the last two are excluded


class AreaMeans(Protocol):
    """Some pictures of one size."""

    shape: tuple[int, int, int]  # number, height, width

    def resized(self, height: int, width: int) -> Tensor:
        """All of them, (n, 3, height, width) float32 in 0 to 255: each value is the mean of the area that it covers."""

    def crops(self, owners: NDArray[np.int64], corners: Corners, side: int) -> Tensor:
        """The insides of boxes, resized, (k, 3, side, side) float32.

        Args:
            owners: (k,) number of the picture of each box.
            corners: of the boxes, which lie within the pictures and are not empty.
        """


class AddedAreas:
    """AreaMeans on a device, each area of which is added up: for a GPU, and for few boxes.

    Args:
        images: (n, height, width, 3) uint8.
        device: of torch.
    """

    def __init__(self, images: NDArray[np.uint8], device: torch.device) -> None:
        self._pixels = torch.from_numpy(np.ascontiguousarray(images)).to(device).permute(0, 3, 1, 2)
        self.shape = images.shape[0], images.shape[1], images.shape[2]

    def resized(self, height: int, width: int) -> Tensor:
        """See `AreaMeans`."""
        return functional.interpolate(self._pixels.float(), (height, width), mode="area")

    def crops(self, owners: NDArray[np.int64], corners: Corners, side: int) -> Tensor:
        """See `AreaMeans`."""
        crops = [
            functional.interpolate(self._pixels[owner, None, :, y0:y1, x0:x1].float(), (side, side), mode="area")
            for owner, x0, y0, x1, y1 in np.stack([owners, *corners], axis=1).tolist()
        ]
        return torch.cat(crops)


class SummedAreas:
    """AreaMeans on the processor with tables of sums: an area takes four look-ups, whatever its size.

    Sums are integers, so that the means are those of `AddedAreas` to the last bit.

    Args:
        images: (n, height, width, 3) uint8.
    """

    def __init__(self, images: NDArray[np.uint8]) -> None:
        n, height, width, _ = images.shape
        self.shape = n, height, width
        # int32 may overflow: differences of sums are right all the same
        self._sums = np.zeros((n, height + 1, width + 1, 3), dtype=np.int32)
        inner = self._sums[:, 1:, 1:]
        for image, sums in zip(images, inner, strict=True):
            np.cumsum(image, axis=0, dtype=np.int32, out=sums)
            np.cumsum(sums, axis=1, out=sums)

    def resized(self, height: int, width: int) -> Tensor:
        """See `AreaMeans`."""
        (top, bottom), (left, right) = _areas(self.shape[1], height), _areas(self.shape[2], width)
        rows = self._sums.take(bottom, axis=1) - self._sums.take(top, axis=1)
        sums = rows.take(right, axis=2) - rows.take(left, axis=2)
        return _means(sums, (bottom - top)[:, None], right - left)  # strides are those of `AddedAreas`

    def crops(self, owners: NDArray[np.int64], corners: Corners, side: int) -> Tensor:
        """See `AreaMeans`."""
        x0, y0, x1, y1 = (corner[:, None] for corner in corners)
        (top, bottom), (left, right) = _areas(y1 - y0, side), _areas(x1 - x0, side)
        rows = [(y0 + edge)[:, :, None] for edge in (top, bottom)]
        columns = [(x0 + edge)[:, None, :] for edge in (left, right)]
        owner, table = owners[:, None, None], self._sums
        sums = table[owner, rows[1], columns[1]] - table[owner, rows[1], columns[0]]
        sums -= table[owner, rows[0], columns[1]] - table[owner, rows[0], columns[0]]
        return _means(sums, (bottom - top)[:, :, None], (right - left)[:, None, :]).contiguous()


def _areas(size: "int | NDArray[np.int64]", n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The begin and end of each of `n` areas along an axis; neighbours may share a pixel."""
    numbers = np.arange(n)
    return numbers * size // n, -(-(numbers + 1) * size // n)


def _means(sums: NDArray[np.int32], heights: NDArray[np.int64], widths: NDArray[np.int64]) -> Tensor:
    """Means from sums (n, rows, columns, 3), as (n, 3, rows, columns); the colours of a pixel stay neighbours in memory."""
    means = sums.astype(np.float32)
    means /= heights.astype(np.float32)[..., None]
    means /= widths.astype(np.float32)[..., None]
    return torch.from_numpy(means).permute(0, 3, 1, 2)
