"""DDAMFN++ (Zhang et al., 2023), a small network of expressions, as HSEmotion trained it on several tasks.

A MixFaceNet whose depthwise convolutions have kernels of several sizes, and whose blocks weigh positions by coordinate
attention. Its last map is weighed by the greatest of two attention heads, and each channel of the result is summed up by
a kernel as large as the map. Key names are those of the authors' checkpoints, which hold parts that no output needs.
"""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from abaw.backbones.vision.emotieffnet import N_AFFECT, split_scores

N_HEADS = 2
WIDTH = 512
SIDE = 7  # of the last map, from 112 pixels
SQUEEZE = 32  # channels for each channel of an attention's bottleneck,
SQUEEZED_MIN = 8  # which has no fewer than these
# width in, width out, number of blocks, stride, and channels by kernel size of the depthwise convolution
Stage = tuple[int, int, int, int, dict[int, int]]
STAGES: tuple[Stage, ...] = (
    (64, 64, 1, 2, {3: 64, 5: 32, 7: 32}),
    (64, 64, 9, 1, {3: 96, 5: 32}),
    (64, 128, 1, 2, {3: 128, 5: 64, 7: 64}),
    (128, 128, 16, 1, {3: 192, 5: 64}),
    (128, 256, 1, 2, {3: 256, 5: 256, 7: 256, 9: 256}),
    (256, 256, 6, 1, {3: 172, 5: 170, 7: 170}),
)


class ConvNorm(nn.Module):
    """A convolution without bias, a norm, and optionally a PReLU."""

    def __init__(
        self,
        width_in: int,
        width: int,
        kernel: int | tuple[int, int],
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        prelu: bool = False,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width_in, width, kernel, stride=stride, padding=padding, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(width)
        if prelu:
            self.prelu = nn.PReLU(width)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps of a batch of maps."""
        hidden = self.bn(self.conv(maps))
        return self.prelu(hidden) if hasattr(self, "prelu") else hidden


class MixedConv(nn.Module):
    """Depthwise convolution of channels in groups with a kernel size each; its norm and PReLU are never used."""

    def __init__(self, kernels: dict[int, int], stride: int) -> None:
        super().__init__()
        self._widths = list(kernels.values())
        self.mixed_depthwise_conv = nn.ModuleList(
            nn.Conv2d(width, width, size, stride=stride, padding=size // 2, groups=width, bias=False)
            for size, width in kernels.items()
        )
        self.bn = nn.BatchNorm2d(sum(self._widths))
        self.prelu = nn.PReLU(sum(self._widths))

    def forward(self, maps: Tensor) -> Tensor:
        """Maps of a batch of maps."""
        groups = zip(self.mixed_depthwise_conv, maps.split(self._widths, dim=1), strict=True)
        return torch.cat([conv(group) for conv, group in groups], dim=1)


class CoordinateAttention(nn.Module):
    """Weights of the positions of a map from the contents of its rows and columns (Hou et al., 2021): (n, width, h, w)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        squeezed = max(SQUEEZED_MIN, width // SQUEEZE)
        self.conv1 = nn.Conv2d(width, squeezed, 1)
        self.bn1 = nn.BatchNorm2d(squeezed)
        self.conv2 = nn.Conv2d(squeezed, width, 1)
        self.conv3 = nn.Conv2d(squeezed, width, 1)

    def rows_and_columns(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """The content of each row, (n, width, h, 1), and column, (n, width, 1, w): here the means."""
        return maps.mean(dim=3, keepdim=True), maps.mean(dim=2, keepdim=True)

    def forward(self, maps: Tensor) -> Tensor:
        """Weights between 0 and 1."""
        rows, columns = self.rows_and_columns(maps)
        both = F.hardswish(self.bn1(self.conv1(torch.cat([rows, columns.transpose(2, 3)], dim=2))))
        rows, columns = both.split([maps.shape[2], maps.shape[3]], dim=2)
        return self.conv2(rows).sigmoid() * self.conv3(columns.transpose(2, 3)).sigmoid()


class AttentionHead(CoordinateAttention):
    """Coordinate attention that sums up rows and columns by its own kernels; `Linear` is never used."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.Linear_h = ConvNorm(width, width, (1, SIDE), groups=width)
        self.Linear_w = ConvNorm(width, width, (SIDE, 1), groups=width)
        self.Linear = ConvNorm(width, width, SIDE, groups=width)

    def rows_and_columns(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """The content of each row, (n, width, h, 1), and column, (n, width, 1, w)."""
        return self.Linear_h(maps), self.Linear_w(maps)


class MixedBlock(nn.Module):
    """(n, width_in, h, w) -> (n, width, h / stride, w / stride): widened, mixed, weighed, narrowed."""

    def __init__(self, width_in: int, width: int, stride: int, kernels: dict[int, int]) -> None:
        super().__init__()
        inside = sum(kernels.values())
        self._residual = stride == 1
        self.conv = ConvNorm(width_in, inside, 1, prelu=True)
        self.conv_dw = MixedConv(kernels, stride)
        self.CA = CoordinateAttention(inside)
        self.project = ConvNorm(inside, width, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps of a batch of maps."""
        hidden = self.conv_dw(self.conv(maps))
        hidden = self.project(hidden * self.CA(hidden))
        return maps + hidden if self._residual else hidden


class Ddamfn(nn.Module):
    """(n, 3, 112, 112) normalised -> `embedding` (n, 512), `logits` (n, classes), `va` (n, 2) if it was trained.

    Args:
        n_outputs: of the last layer.
        affect: whether the last two outputs are valence and arousal.
    """

    def __init__(self, n_outputs: int, affect: bool) -> None:
        super().__init__()
        stem = STAGES[0][0]
        self.features = nn.Sequential(
            ConvNorm(3, stem, 3, stride=2, padding=1, prelu=True),
            ConvNorm(stem, stem, 3, padding=1, groups=stem, prelu=True),
            *(_stage(stage) for stage in STAGES),
            ConvNorm(STAGES[-1][1], WIDTH, 1, prelu=True),
        )
        self.cat_head0, self.cat_head1 = (nn.ModuleDict({"CoordAtt": AttentionHead(WIDTH)}) for _ in range(N_HEADS))
        self.Linear = ConvNorm(WIDTH, WIDTH, SIDE, groups=WIDTH)
        self.fc = nn.Linear(WIDTH, n_outputs)
        self._n_classes = n_outputs - N_AFFECT if affect else n_outputs

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """All outputs of a batch."""
        maps = self.features(images)
        weights = torch.maximum(self.cat_head0["CoordAtt"](maps), self.cat_head1["CoordAtt"](maps))
        embedding = self.Linear(maps * weights).flatten(1)
        return split_scores(embedding, self.fc(embedding), self._n_classes)


def _stage(stage: Stage) -> nn.Module:
    """A block that halves the image, or blocks in a row that keep its size, which the checkpoints call `model`."""
    width_in, width, n_blocks, stride, kernels = stage
    if stride > 1:
        return MixedBlock(width_in, width, stride, kernels)
    blocks = nn.Sequential(*(MixedBlock(width_in, width, stride, kernels) for _ in range(n_blocks)))
    return nn.Sequential(OrderedDict(model=blocks))
