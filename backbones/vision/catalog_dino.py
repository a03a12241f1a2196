"""DINOv3 by short names. Only the builder loads torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from abaw.backbones.registry import Built, Family
from abaw.backbones.spec import BackboneSpec, ImageInput
from abaw.backbones.vision.timm_families import timm_family

if TYPE_CHECKING:
    import torch

    State = dict[str, torch.Tensor]

DINOV3_LICENCE = "DINOv3 License (Meta): commercial use is allowed, some kinds of use are not"
DINOV3_INPUT = ImageInput(256)
TRANSFORMERS = "dinov3_vit"  # model_type of a folder of transformers


def fit_dinov3(specs: Sequence[BackboneSpec], state: "State") -> "tuple[Sequence[BackboneSpec], State]":
    """Convert the layouts of Meta, of transformers and of timm, with or without biases of queries."""
    from abaw.backbones.vision.dinov3 import from_transformers, with_biases
    from abaw.backbones.vision.timm_weights import convert

    specs, state = convert(specs, from_transformers(state))
    return specs, with_biases(state)


def _build_dinov3(specs: Sequence[BackboneSpec], file: Path | None) -> "torch.nn.Module | Built":
    from abaw.backbones.vision.timm_folders import folder_weights, read_config
    from abaw.backbones.vision.timm_models import build_timm
    from abaw.backbones.weights import load_network

    if file is None:
        return build_timm(specs, None)
    if file.is_dir():
        if (read_config(file) or {}).get("model_type") != TRANSFORMERS:
            return build_timm(specs, file)
        file = folder_weights(file)
    return load_network(_build_dinov3, specs, file, fit_dinov3)


def _dinov3(name: str, size: str, width: int, parameters: int) -> Family:
    return timm_family(
        name,
        f"vit_{size}_patch16_dinov3_qkvb.lvd1689m",
        width,
        parameters,
        DINOV3_LICENCE,
        image=DINOV3_INPUT,
        outputs=("mean", "cls"),
        fit=fit_dinov3,
        build=_build_dinov3,
    )


FAMILIES = (
    _dinov3("dinov3-s16", "small", 384, 21_596_160),
    _dinov3("dinov3-b16", "base", 768, 85_659_648),
    _dinov3("dinov3-l16", "large", 1024, 303_128_576),
)
