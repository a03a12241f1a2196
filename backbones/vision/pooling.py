"""ViTs that were fine-tuned on the mean of their patch tokens: how their checkpoints are recognised. Loads no torch."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from abaw.backbones.spec import BackboneSpec

if TYPE_CHECKING:
    import torch

GLOBAL_POOL = "global_pool"  # option of such a ViT


def fit_pooling(
    specs: Sequence[BackboneSpec], state: "dict[str, torch.Tensor]"
) -> "tuple[list[BackboneSpec], dict[str, torch.Tensor]]":
    """Set the option where a state dict has `fc_norm` instead of `norm`."""
    pooled = "fc_norm.weight" in state and "norm.weight" not in state
    return [spec.with_options(global_pool=pooled or None) for spec in specs], state
