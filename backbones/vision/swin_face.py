"""The image network of V-NAW (Netease Fuxi, 3rd ABAW challenge): a Swin transformer for faces of 112 pixels.

Patches have 2 pixels. The output of the last stage is averaged over its positions and goes through two linear layers, each
with a batch norm behind it.
"""

from timm.models.swin_transformer import SwinTransformer
from torch import Tensor, nn

INPUT_SIZE = 112
PATCH = 2
WINDOW = 7
WIDTH = 96
DEPTHS = (2, 2, 6, 2)
HEADS = (3, 6, 12, 24)
EMBEDDING = 512
NORM_EPSILON = 2e-5
ATTENTION_DROPOUT = 0.1  # in training


class SwinFace(SwinTransformer):
    """(n, 3, 112, 112) normalised -> `embedding` (n, 512) and `mean` (n, 768), the mean over positions before it."""

    def __init__(self) -> None:
        super().__init__(
            img_size=INPUT_SIZE,
            patch_size=PATCH,
            window_size=WINDOW,
            embed_dim=WIDTH,
            depths=DEPTHS,
            num_heads=HEADS,
            attn_drop_rate=ATTENTION_DROPOUT,
            num_classes=0,
        )
        self.feature = nn.Sequential(
            nn.Linear(self.num_features, self.num_features, bias=False),
            nn.BatchNorm1d(self.num_features, eps=NORM_EPSILON),
            nn.Linear(self.num_features, EMBEDDING, bias=False),
            nn.BatchNorm1d(EMBEDDING, eps=NORM_EPSILON),
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:  # type: ignore[override]  # timm's gives scores
        """Both outputs of a batch."""
        return self.embed_pooled(self.pool_images(images))

    def pool_images(self, images: Tensor) -> Tensor:
        """(n, 768), the mean over positions of each image, for which the other images of the batch do not matter."""
        mean: Tensor = self.forward_features(images).mean(dim=(1, 2))
        return mean

    def embed_pooled(self, pooled: Tensor) -> dict[str, Tensor]:
        """Both outputs from what `pool_images` gives."""
        return {"embedding": self.feature(pooled), "mean": pooled}
