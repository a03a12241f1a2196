"""DAN, "Distract Your Attention" (Wen et al., 2021): facial expressions by several cross attention heads.

A ResNet-18 feature map goes through four heads, each spatial then channel attention; the heads compete by a
log-softmax across them, and their sum is classified. Key names are those of the authors' checkpoints.
"""

import timm
import torch
from torch import Tensor, nn

N_HEADS = 4
WIDTH = 512  # channels of ResNet-18's last map
SPATIAL_WIDTH = 256
CHANNEL_WIDTH = 32


class SpatialAttention(nn.Module):
    """Weights the positions of a map (n, 512, h, w) by 3x3, 1x3 and 3x1 convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1x1 = _conv_norm(WIDTH, SPATIAL_WIDTH, (1, 1))
        self.conv_3x3 = _conv_norm(SPATIAL_WIDTH, WIDTH, (3, 3))
        self.conv_1x3 = _conv_norm(SPATIAL_WIDTH, WIDTH, (1, 3))
        self.conv_3x1 = _conv_norm(SPATIAL_WIDTH, WIDTH, (3, 1))

    def forward(self, maps: Tensor) -> Tensor:
        """The maps, weighted."""
        narrow = self.conv1x1(maps)
        seen = torch.relu(self.conv_3x3(narrow) + self.conv_1x3(narrow) + self.conv_3x1(narrow))
        return maps * seen.sum(dim=1, keepdim=True)


class ChannelAttention(nn.Module):
    """Mean over positions of a map (n, 512, h, w), its channels weighted by a bottleneck: (n, 512)."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.Sequential(
            nn.Linear(WIDTH, CHANNEL_WIDTH),
            nn.BatchNorm1d(CHANNEL_WIDTH),
            nn.ReLU(),
            nn.Linear(CHANNEL_WIDTH, WIDTH),
            nn.Sigmoid(),
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Vectors of a batch of maps."""
        pooled = maps.mean(dim=(2, 3))
        return pooled * self.attention(pooled)


class DanHead(nn.Module):
    """Spatial attention, then channel attention: (n, 512, h, w) -> (n, 512)."""

    def __init__(self) -> None:
        super().__init__()
        self.sa = SpatialAttention()
        self.ca = ChannelAttention()

    def forward(self, maps: Tensor) -> Tensor:
        """Vectors of a batch of maps."""
        return self.ca(self.sa(maps))


class Dan(nn.Module):
    """(n, 3, 224, 224) normalised -> `logits` (n, classes), `head` (n, 512), `map` (n, 512).

    `head` is the sum over the heads after their log-softmax, the input of the classifier; `map` is the mean over positions
    of the ResNet's last feature map.
    """

    def __init__(self, n_classes: int = 8) -> None:
        super().__init__()
        # a ResNet-18 without its pooling and its classifier
        self.features = nn.Sequential(*list(timm.create_model("resnet18", num_classes=0).children())[:-2])
        self.cat_head0, self.cat_head1, self.cat_head2, self.cat_head3 = (DanHead() for _ in range(N_HEADS))
        self.fc = nn.Linear(WIDTH, n_classes)
        self.bn = nn.BatchNorm1d(n_classes)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """All outputs of a batch."""
        maps = self.features(images)
        heads = [head(maps) for head in (self.cat_head0, self.cat_head1, self.cat_head2, self.cat_head3)]
        head = torch.stack(heads).log_softmax(dim=0).sum(dim=0)
        return {"logits": self.bn(self.fc(head)), "head": head, "map": maps.mean(dim=(2, 3))}


def _conv_norm(width_in: int, width: int, kernel: tuple[int, int]) -> nn.Sequential:
    padding = (kernel[0] // 2, kernel[1] // 2)
    return nn.Sequential(nn.Conv2d(width_in, width, kernel, padding=padding), nn.BatchNorm2d(width))
