"""Histograms of oriented gradients (Dalal and Triggs, 2005), batched in torch.

Gives what `skimage.feature.hog(grey, orientations=9, pixels_per_cell=(8, 8), cells_per_block=(1, 1))` gives, with
its L2-Hys normalisation. OpenFace 2 built its action unit models on features of this family.
"""

import torch
from torch import Tensor, nn

ORIENTATIONS = 9
CELL_PIXELS = 8
EPSILON = 1e-5
CLIP = 0.2  # of L2-Hys: normalise, clip, normalise again
GREY = (299, 587, 114)  # ITU-R 601, in thousandths: grey levels are whole numbers, exact in float32


class Hog(nn.Module):
    """(n, 3, 112, 112) RGB in [0, 1] -> {"hog": (n, 1764)}: cells row by row, orientations last."""

    float32_only = True

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Histograms of a batch."""
        pixels = (images * 255).round()
        grey = GREY[0] * pixels[:, 0] + GREY[1] * pixels[:, 1] + GREY[2] * pixels[:, 2]
        return {"hog": histograms(grey)}


def histograms(grey: Tensor) -> Tensor:
    """HOG of grey images (n, height, width) in steps of 1/255000, sides multiples of 8: (n, height/8 * width/8 * 9)."""
    vertical, horizontal = torch.zeros_like(grey), torch.zeros_like(grey)
    vertical[:, 1:-1] = grey[:, 2:] - grey[:, :-2]
    horizontal[:, :, 1:-1] = grey[:, :, 2:] - grey[:, :, :-2]
    if torch.onnx.is_in_onnx_export():  # ONNX has no hypot
        magnitude = torch.sqrt(horizontal.square() + vertical.square()) / (255 * sum(GREY))
    else:
        magnitude = torch.hypot(horizontal, vertical) / (255 * sum(GREY))
    # angle in [0, 180) degrees, in units of one histogram bin
    angle = torch.rad2deg(torch.atan2(vertical, horizontal)) % 180
    bins = (angle / (180 / ORIENTATIONS)).long().clamp(max=ORIENTATIONS - 1)
    cells = _sum_in_cells(magnitude, bins) / CELL_PIXELS**2
    cells = cells / torch.sqrt(cells.square().sum(-1, keepdim=True) + EPSILON**2)
    cells = cells.clamp(max=CLIP)
    cells = cells / torch.sqrt(cells.square().sum(-1, keepdim=True) + EPSILON**2)
    return cells.flatten(1)


def _sum_in_cells(magnitude: Tensor, bins: Tensor) -> Tensor:
    """Magnitudes (n, height, width) summed by cell and bin: (n, rows * columns, 9)."""
    n, height, width = magnitude.shape
    rows, columns = height // CELL_PIXELS, width // CELL_PIXELS
    row = torch.arange(height, device=magnitude.device) // CELL_PIXELS
    column = torch.arange(width, device=magnitude.device) // CELL_PIXELS
    cell = (row[:, None] * columns + column[None, :]) * ORIENTATIONS
    index = (cell + bins).flatten(1)
    sums = torch.zeros(n, rows * columns * ORIENTATIONS, device=magnitude.device)
    return sums.scatter_add_(1, index, magnitude.flatten(1)).view(n, rows * columns, ORIENTATIONS)
