"""ResNet-50 in the layout of the VGGFace2 weights (Cao et al., 2018), which came from Caffe.

A stage halves the image in the first 1x1 convolution of its first block, as He et al. had it. Caffe also pools without
padding and counts the incomplete positions at the end; V-NAW (3rd ABAW challenge) took the same weights with the padded
pooling of torchvision.
"""

import torch
from torch import Tensor, nn

STAGES = (3, 4, 6, 3)
WIDTHS = (64, 128, 256, 512)
STEM_WIDTH = 64
EXPANSION = 4


class Bottleneck(nn.Module):
    """(n, width_in, h, w) -> (n, 4 * width, h / stride, w / stride)."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        width_out = EXPANSION * width
        self.conv1 = nn.Conv2d(width_in, width, 1, stride=stride, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, width_out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width_out)
        self.downsample: nn.Module = nn.Identity()
        if width_in != width_out:
            projection = nn.Conv2d(width_in, width_out, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(width_out))

    def forward(self, maps: Tensor) -> Tensor:
        """Feature maps of a batch of feature maps."""
        hidden = torch.relu(self.bn1(self.conv1(maps)))
        hidden = torch.relu(self.bn2(self.conv2(hidden)))
        return torch.relu(self.bn3(self.conv3(hidden)) + self.downsample(maps))


class ResNetVggFace(nn.Module):
    """(n, 3, height, width) normalised -> {"pooled": (n, 2048)}, the mean over positions of the last map.

    Args:
        caffe: pool as Caffe does, and turn RGB into the BGR that the weights were trained on.
    """

    def __init__(self, caffe: bool) -> None:
        super().__init__()
        self._bgr = caffe
        self.conv1 = nn.Conv2d(3, STEM_WIDTH, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM_WIDTH)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=0 if caffe else 1, ceil_mode=caffe)
        widths_in = (STEM_WIDTH, *(EXPANSION * width for width in WIDTHS[:-1]))
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            _stage(width_in, width, n_blocks, 1 if width == WIDTHS[0] else 2)
            for width_in, width, n_blocks in zip(widths_in, WIDTHS, STAGES, strict=True)
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Pooled features of a batch."""
        images = images.flip(1) if self._bgr else images
        hidden = self.maxpool(torch.relu(self.bn1(self.conv1(images))))
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            hidden = stage(hidden)
        return {"pooled": hidden.mean(dim=(2, 3))}


def _stage(width_in: int, width: int, n_blocks: int, stride: int) -> nn.Sequential:
    """Blocks of one width; the first changes the size of the image."""
    first = Bottleneck(width_in, width, stride)
    return nn.Sequential(first, *(Bottleneck(EXPANSION * width, width, 1) for _ in range(n_blocks - 1)))
