"""The three networks of MTCNN (Zhang et al. 2016, "Joint Face Detection and Alignment using Multitask Cascaded CNNs").

Each takes RGB as (x - 127.5) / 128, (n, 3, height, width) float32.
"""

from collections.abc import Iterator
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from abaw.core.errors import CheckpointError

CELL_PX, STRIDE_PX = 12, 2  # of the proposal network: what one output sees, and the distance of outputs
REFINE_PX, OUTPUT_PX = 24, 48  # inputs of the second and the third network


class Network(nn.Module):
    """A trunk with heads: box, landmarks (in the last network only), and face or no face."""

    def __init__(self, trunk: list[nn.Module], heads: list[nn.Module]) -> None:
        super().__init__()
        self.trunk = nn.Sequential(*trunk)
        self.heads = nn.ModuleList(heads)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Outputs of the heads; the last one is the probability of a face, without an axis of classes."""
        hidden = self.trunk(images)
        *others, face = [head(hidden) for head in self.heads]
        return [*others, face.softmax(dim=1)[:, 1]]

    def load(self, arrays: list[NDArray[np.float32]]) -> None:
        """Copy weights in the order of the layers, in the layout of TensorFlow.

        Raises:
            CheckpointError: they do not fit.
        """
        parameters = list(self._tensors())
        weights = [_as_torch(array) for array in arrays]
        if [tuple(tensor.shape) for tensor in parameters] != [tuple(tensor.shape) for tensor in weights]:
            raise CheckpointError("The weights of mtcnn do not have the layout of its networks. Install mtcnn again.")
        with torch.no_grad():
            for tensor, values in zip(parameters, weights, strict=True):
                tensor.copy_(values)

    def _tensors(self) -> Iterator[Tensor]:
        for layer in (*self.trunk, *self.heads):
            yield from layer.parameters()  # weight, then bias


def _as_torch(array: NDArray[np.float32]) -> Tensor:
    if array.ndim == 4:  # convolution: height, width, in, out
        array = array.transpose(3, 2, 0, 1)
    elif array.ndim == 2:  # dense: in, out
        array = array.T
    else:  # bias, or the slopes of a PReLU (1, 1, channels)
        array = array.ravel()
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


class _Flatten(nn.Module):
    """(n, channels, height, width) to vectors in the order of the dense layers' weights: columns first."""

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden.transpose(2, 3).permute(0, 2, 3, 1).flatten(1)


def _convolution(n_in: int, n_out: int, size: int) -> list[nn.Module]:
    return [nn.Conv2d(n_in, n_out, size), nn.PReLU(n_out)]


class _Pool(nn.Module):
    """Maxima of squares with stride 2; those at the end may be cut off, as with `ceil_mode` of `MaxPool2d`."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size

    def forward(self, maps: Tensor) -> Tensor:
        if maps.device.type != "cpu":
            return functional.max_pool2d(maps, self._size, 2, ceil_mode=True)
        return self._along(self._along(maps, 2), 3)  # MaxPool2d looks for indices, too: 10 times as long

    def _along(self, maps: Tensor, axis: int) -> Tensor:
        size = maps.shape[axis]
        n = -(-max(size - self._size, 0) // 2) + 1
        maxima = maps[_every_second(axis, 0, n)]
        for offset in range(1, self._size):
            others = maps[_every_second(axis, offset, n)]
            if others.shape[axis] < n:  # the last square is cut off
                others = torch.cat([others, maxima.narrow(axis, n - 1, 1)], axis)
            maxima = torch.maximum(maxima, others)
        return maxima


def _every_second(axis: int, start: int, n: int) -> tuple[slice, ...]:
    """Up to `n` positions along an axis, from one on."""
    return (*[slice(None)] * axis, slice(start, start + 2 * n - 1, 2))


def proposal_network() -> Network:
    """P-Net: a box (n, 4, rows, columns) and a probability (n, rows, columns) for each cell of 12x12 pixels."""
    trunk = [*_convolution(3, 10, 3), _Pool(2), *_convolution(10, 16, 3), *_convolution(16, 32, 3)]
    return Network(trunk, [nn.Conv2d(32, 4, 1), nn.Conv2d(32, 2, 1)])


def refine_network() -> Network:
    """R-Net: boxes (n, 4) and probabilities (n,) from (n, 3, 24, 24)."""
    trunk = [*_convolution(3, 28, 3), _Pool(3), *_convolution(28, 48, 3), _Pool(3), *_convolution(48, 64, 2)]
    trunk += [_Flatten(), nn.Linear(576, 128), nn.PReLU(128)]
    return Network(trunk, [nn.Linear(128, 4), nn.Linear(128, 2)])


def output_network() -> Network:
    """O-Net: boxes (n, 4), landmarks (n, 10: five x, five y) and probabilities (n,) from (n, 3, 48, 48)."""
    trunk = [*_convolution(3, 32, 3), _Pool(3), *_convolution(32, 64, 3), _Pool(3), *_convolution(64, 64, 3), _Pool(2)]
    trunk += [*_convolution(64, 128, 2), _Flatten(), nn.Linear(1152, 256), nn.PReLU(256)]
    return Network(trunk, [nn.Linear(256, 4), nn.Linear(256, 10), nn.Linear(256, 2)])


def run(network: nn.Module, images: Tensor) -> list[Tensor]:
    """Normalise images with values 0 to 255 and run a network on them."""
    return cast("list[Tensor]", network((images - 127.5) * (1 / 128)))
