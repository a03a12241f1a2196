"""The encoder of masked autoencoders, MAE (He et al., 2022), with or without masked patches.

timm's VisionTransformer has the key names of MAE's checkpoints. Its forward is written out here because masked patches
must skip the blocks, which makes a masked pass fast.
"""

from dataclasses import dataclass
from functools import partial

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

INPUT_SIZE = 224
NORM_EPSILON = 1e-6
TOKEN_STD = 0.02


@dataclass(frozen=True)
class Size:
    """Side of a patch in pixels, width of a token, number of blocks and of attention heads, side of an image in pixels."""

    patch: int
    width: int
    depth: int
    heads: int
    side: int = INPUT_SIZE


BASE = Size(patch=16, width=768, depth=12, heads=12)
LARGE = Size(patch=16, width=1024, depth=24, heads=16)
HUGE = Size(patch=14, width=1280, depth=32, heads=16)
SIZES = {"mae": BASE, "mae-l": LARGE, "mae-h": HUGE}


class MaeEncoder(VisionTransformer):
    """(n, 3, side, side) normalised -> `cls` and `mean` (n, width), the class token and the mean of the patch tokens.

    Both after the final norm. A checkpoint that was fine-tuned with global pooling has none: it norms the mean
    (`fc_norm`) and does not use the class token, which is then the output of the last block.
    """

    def __init__(self, size: Size, global_pool: bool = False) -> None:
        super().__init__(
            img_size=size.side,
            patch_size=size.patch,
            embed_dim=size.width,
            depth=size.depth,
            num_heads=size.heads,
            num_classes=0,
            global_pool="avg" if global_pool else "token",
            norm_layer=partial(nn.LayerNorm, eps=NORM_EPSILON),
            weight_init="skip",  # timm's takes several seconds for ViT-L, and is overwritten by a checkpoint
        )
        assert self.pos_embed is not None and self.cls_token is not None, "MAE has both"
        nn.init.normal_(self.pos_embed, std=TOKEN_STD)
        nn.init.normal_(self.cls_token, std=TOKEN_STD)
        self.n_patches = (size.side // size.patch) ** 2

    def forward(  # type: ignore[override]  # only parts of timm's class are used
        self, images: Tensor, kept: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Both poolings of a batch.

        Args:
            images: (n, 3, side, side).
            kept: (n, k) int64, the patches that each image keeps, row by row from 0; None keeps all.
        """
        tokens = self.tokens(images, kept)
        return {"cls": tokens[:, 0], "mean": self.fc_norm(tokens[:, 1:].mean(dim=1))}

    def tokens(self, images: Tensor, kept: Tensor | None = None) -> Tensor:
        """Class token and kept patch tokens after the final norm, if there is one: (n, 1 + k, width)."""
        assert self.pos_embed is not None and self.cls_token is not None, "MAE has both"
        patches = self.patch_embed(images) + self.pos_embed[:, 1:]
        if kept is not None:
            patches = patches.take_along_dim(kept[:, :, None], dim=1)
        class_token = (self.cls_token + self.pos_embed[:, :1]).expand(len(images), -1, -1)
        return self.norm(self.blocks(torch.cat([class_token, patches], dim=1)))
