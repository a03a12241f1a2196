"""A backbone without weights: the mean colour of a face crop. Specs are data; torch is imported when one is built."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from abaw.backbones.registry import Family
from abaw.backbones.spec import BackboneSpec, ImageInput

if TYPE_CHECKING:
    import torch

TINT = BackboneSpec(
    "tint", "tint", "mean", "vision", (3,), "mean colour", "none", ImageInput(112, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
)


def build(specs: Sequence[BackboneSpec], file: Path | None) -> "torch.nn.Module":
    """The network of the specs; one with weights would load them from `file`."""
    import torch

    class Tint(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"mean": images.mean((2, 3))}

    return Tint()


FAMILIES = (Family("tint", (TINT,), build),)
