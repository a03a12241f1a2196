"""Backbones that do nothing, so that all that is measured is what happens around them. Loads no torch.

`benchmarks/plugin` lists them as plug-ins, for processes that have it on their PYTHONPATH.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from abaw.backbones.registry import Family, register
from abaw.backbones.spec import BackboneSpec, ImageInput

if TYPE_CHECKING:
    from torch import nn

CORNER_PX = 16  # 16 x 16 pixels of 3 channels are as many values as a ViT-B gives
NOTHING = "nothing-16"  # 768 values, all that a crop of 16 x 16 pixels has
NARROW = "nothing-4"  # 48 values: for so many frames that the disk would count


def nothing_family(size_px: int) -> Family:
    """The backbone `nothing-SIZE` for an input size: a corner of the input is the feature."""
    name = f"nothing-{size_px}"
    spec = BackboneSpec(
        name=name,
        family=name,
        output="corner",
        modality="vision",
        shape=(3 * min(size_px, CORNER_PX) ** 2,),
        architecture="none",
        weights="none",
        image=ImageInput(size_px),
    )
    return Family(name, (spec,), _build)


def _build(specs: Sequence[BackboneSpec], file: Path | None) -> "nn.Module":
    from benchmarks.nothing import Nothing

    return Nothing()


def register_nothing(size_px: int) -> str:
    """Register the backbone for an input size in this process; gives its name."""
    family = nothing_family(size_px)
    register(family)
    return family.name


FAMILIES = (nothing_family(16), nothing_family(4))
