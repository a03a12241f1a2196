"""IResNet, the face recognition network of ArcFace (Deng et al., 2019), as insightface's arcface_torch trains it.

Key names and shapes are those of its checkpoints, so that they load as they are. A block norms first
(norm, conv, norm, PReLU, conv, norm; Han et al., 2017) and has its stride in the second convolution.
"""

import torch
from torch import Tensor, nn

# blocks per stage by depth
STAGES = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 14, 3),
    100: (3, 13, 30, 3),
    200: (6, 26, 60, 6),
}
WIDTHS = (64, 128, 256, 512)
INPUT_SIZE = 112
EMBEDDING = 512


class IResNetBlock(nn.Module):
    """(n, width_in, h, w) -> (n, width, h / stride, w / stride)."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(width_in)
        self.conv1 = nn.Conv2d(width_in, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.prelu = nn.PReLU(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or width_in != width:
            projection = nn.Conv2d(width_in, width, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(width))

    def forward(self, images: Tensor) -> Tensor:
        """Feature maps of a batch of feature maps."""
        hidden = self.prelu(self.bn2(self.conv1(self.bn1(images))))
        return self.bn3(self.conv2(hidden)) + self.downsample(images)


class IResNet(nn.Module):
    """(n, 3, 112, 112) RGB in [-1, 1] -> {"embedding": (n, 512)}, not normalised to unit length."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.prelu = nn.PReLU(WIDTHS[0])
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            _stage(width_in, width, n_blocks)
            for width_in, width, n_blocks in zip((WIDTHS[0], *WIDTHS[:-1]), WIDTHS, STAGES[depth], strict=True)
        )
        side = INPUT_SIZE // 2 ** len(WIDTHS)
        self.bn2 = nn.BatchNorm2d(WIDTHS[-1])
        self.fc = nn.Linear(WIDTHS[-1] * side * side, EMBEDDING)
        self.features = nn.BatchNorm1d(EMBEDDING)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Embeddings of a batch."""
        hidden = self.prelu(self.bn1(self.conv1(images)))
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            hidden = stage(hidden)
        # fc's columns are in channel, row, column order, whatever the memory format is
        flat = torch.flatten(self.bn2(hidden), 1)
        return {"embedding": self.features(self.fc(flat))}


def _stage(width_in: int, width: int, n_blocks: int) -> nn.Sequential:
    """Blocks of one width; the first halves the image."""
    return nn.Sequential(
        IResNetBlock(width_in, width, 2), *(IResNetBlock(width, width, 1) for _ in range(n_blocks - 1))
    )
