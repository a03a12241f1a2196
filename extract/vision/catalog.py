"""The visual backbones by name: specs, and builders that load torch only when they are called."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from abaw.extract.backbone import BackboneSpec, ImageInput, register

if TYPE_CHECKING:
    import torch


@register(
    BackboneSpec(
        name="hog",
        family="hog",
        output="hog",
        modality="vision",
        shape=(1764,),
        architecture="histograms of oriented gradients: 9 orientations, cells of 8x8 pixels, L2-Hys",
        weights="none",
        image=ImageInput(112, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), interpolation="bilinear"),
    )
)
def _build_hog(specs: Sequence[BackboneSpec], file: Path | None) -> "torch.nn.Module":
    from abaw.extract.vision.hog import Hog

    return Hog()


def _vit_specs(family: str, model: str, width: int, parameters: int) -> list[BackboneSpec]:
    return [
        BackboneSpec(
            name=f"{family}-{output}",
            family=family,
            output=output,
            modality="vision",
            shape=(width,),
            architecture=f"timm {model}",
            weights="timm",
            image=ImageInput(224, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), interpolation="bicubic"),
            parameters=parameters,
            licence="Apache-2.0 (timm); trained on ImageNet",
        )
        for output in ("mean", "cls")
    ]


def _build_vit(specs: Sequence[BackboneSpec], file: Path | None) -> "torch.nn.Module":
    from abaw.extract.vision.timm_models import build_timm

    return build_timm(specs, file)


register(*_vit_specs("vit", "vit_base_patch16_224.augreg2_in21k_ft_in1k", 768, 85_798_656))(_build_vit)
register(*_vit_specs("vit-tiny", "vit_tiny_patch16_224.augreg_in21k_ft_in1k", 192, 5_524_416))(_build_vit)
