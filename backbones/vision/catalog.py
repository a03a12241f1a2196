"""The visual backbones by name: specs, and builders that load torch only when they are called.

Those that read affect in faces (MAE, DAN, EMMA) are in `catalog_affect`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

# those of affect come first, and so does `mae` before `vit` where a checkpoint fits both
from abaw.backbones.backbone import Builder, Built, Fit, register
from abaw.backbones.spec import BackboneSpec, ImageInput
from abaw.backbones.vision.catalog_affect import IMAGENET_INPUT

if TYPE_CHECKING:
    import torch

HALF = (0.5, 0.5, 0.5)
HALF_INPUT = ImageInput(224, HALF, HALF)
FACE_INPUT = ImageInput(112, HALF, HALF, "bilinear")
CLIP_INPUT = ImageInput(224, (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


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
    from abaw.backbones.vision.hog import Hog

    return Hog()


def register_timm(
    family: str,
    model: str,
    width: int,
    parameters: int,
    licence: str,
    image: ImageInput = IMAGENET_INPUT,
    outputs: tuple[str, ...] = ("pooled",),
    fit: Fit | None = None,
    build: Builder | None = None,
) -> None:
    """A model with weights of timm's: `family-output` for each of several outputs, `family` for a single one.

    Args:
        fit, build: where checkpoints have other layouts than timm converts.
    """
    specs = [
        BackboneSpec(
            name=family if len(outputs) == 1 else f"{family}-{output}",
            family=family,
            output=output,
            modality="vision",
            shape=(width,),
            architecture=f"timm {model}",
            network=f"timm/{model}",
            weights="timm",
            image=image,
            parameters=parameters,
            licence=licence,
        )
        for output in outputs
    ]

    register(*specs, fit=fit or _fit_timm)(build or _build_timm)


def _build_timm(specs: Sequence[BackboneSpec], file: Path | None) -> "torch.nn.Module | Built":
    from abaw.backbones.vision.timm_models import build_timm

    return build_timm(specs, file)


def _fit_timm(
    specs: Sequence[BackboneSpec], state: "dict[str, torch.Tensor]"
) -> "tuple[Sequence[BackboneSpec], dict[str, torch.Tensor]]":
    from abaw.backbones.vision.timm_weights import convert

    return convert(specs, state)


VIT_LICENCE = "Apache-2.0 (timm); trained on ImageNet"
VIT_OUTPUTS = ("mean", "cls")
register_timm(
    "vit",
    "vit_base_patch16_224.augreg2_in21k_ft_in1k",
    768,
    85_798_656,
    VIT_LICENCE,
    HALF_INPUT,
    VIT_OUTPUTS,
)
register_timm(
    "vit-tiny",
    "vit_tiny_patch16_224.augreg_in21k_ft_in1k",
    192,
    5_524_416,
    VIT_LICENCE,
    HALF_INPUT,
    VIT_OUTPUTS,
)
register_timm("resnet50", "resnet50.a1_in1k", 2048, 23_508_032, VIT_LICENCE)
register_timm(
    "swin-t",
    "swin_tiny_patch4_window7_224.ms_in1k",
    768,
    27_519_354,
    "MIT (Microsoft); trained on ImageNet",
)
register_timm(
    "clip-l14",
    "vit_large_patch14_clip_quickgelu_224.openai",
    1024,
    303_179_776,
    "MIT (OpenAI); its model card advises against use without tests in its place",
    CLIP_INPUT,
)


def _register_iresnet(name: str, depth: Literal[18, 34, 50, 100, 200], parameters: int) -> None:
    spec = BackboneSpec(
        name=name,
        family=name,
        output="embedding",
        modality="vision",
        shape=(512,),
        architecture=f"IResNet-{depth} of insightface arcface_torch",
        weights="file",
        image=FACE_INPUT,
        parameters=parameters,
        licence="code MIT (insightface); its own weights are for non-commercial research",
    )

    @register(spec)
    def build(specs: Sequence[BackboneSpec], file: Path | None) -> "torch.nn.Module | Built":
        from abaw.backbones.vision.iresnet import IResNet
        from abaw.backbones.weights import load_network

        return IResNet(depth) if file is None else load_network(build, specs, file)


_register_iresnet("iresnet18", 18, 24_025_600)
_register_iresnet("iresnet34", 34, 34_139_328)
_register_iresnet("iresnet50", 50, 43_590_848)
_register_iresnet("iresnet100", 100, 65_156_160)
_register_iresnet("iresnet200", 200, 118_833_920)
