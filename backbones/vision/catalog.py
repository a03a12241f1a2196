"""The visual backbones by name: specs, and builders that load torch only when they are called.

The other catalogs have networks of affect, of faces, of HSEmotion, and DINOv3.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from abaw.backbones.registry import Built, Family
from abaw.backbones.spec import BackboneSpec, ImageInput
from abaw.backbones.vision import catalog_affect, catalog_dino, catalog_faces, catalog_hsemotion
from abaw.backbones.vision.timm_families import ANY_TIMM, timm_family

if TYPE_CHECKING:
    import torch

HALF = (0.5, 0.5, 0.5)
HALF_INPUT = ImageInput(224, HALF, HALF)
FACE_INPUT = ImageInput(112, HALF, HALF, "bilinear")
CLIP_INPUT = ImageInput(224, (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))

HOG_SPEC = BackboneSpec(
    name="hog",
    family="hog",
    output="hog",
    modality="vision",
    shape=(1764,),
    architecture="histograms of oriented gradients: 9 orientations, cells of 8x8 pixels, L2-Hys",
    weights="none",
    image=ImageInput(112, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), interpolation="bilinear"),
)


def _build_hog(specs: Sequence[BackboneSpec], file: Path | None) -> "torch.nn.Module":
    from abaw.backbones.vision.hog import Hog

    return Hog()


VIT_LICENCE = "Apache-2.0 (timm); trained on ImageNet"
VIT_OUTPUTS = ("mean", "cls")
TIMM_FAMILIES = (
    timm_family(
        "vit",
        "vit_base_patch16_224.augreg2_in21k_ft_in1k",
        768,
        85_798_656,
        VIT_LICENCE,
        image=HALF_INPUT,
        outputs=VIT_OUTPUTS,
    ),
    timm_family(
        "vit-tiny",
        "vit_tiny_patch16_224.augreg_in21k_ft_in1k",
        192,
        5_524_416,
        VIT_LICENCE,
        image=HALF_INPUT,
        outputs=VIT_OUTPUTS,
    ),
    timm_family("resnet50", "resnet50.a1_in1k", 2048, 23_508_032, VIT_LICENCE),
    timm_family(
        "swin-t",
        "swin_tiny_patch4_window7_224.ms_in1k",
        768,
        27_519_354,
        "MIT (Microsoft); trained on ImageNet",
    ),
    timm_family(
        "clip-l14",
        "vit_large_patch14_clip_quickgelu_224.openai",
        1024,
        303_179_776,
        "MIT (OpenAI); its model card advises against use without tests in its place",
        image=CLIP_INPUT,
    ),
)


def _iresnet(depth: Literal[18, 34, 50, 100, 200], parameters: int) -> Family:
    name = f"iresnet{depth}"
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

    def build(specs: Sequence[BackboneSpec], file: Path | None) -> "torch.nn.Module | Built":
        from abaw.backbones.vision.iresnet import IResNet
        from abaw.backbones.weights import load_network

        return IResNet(depth) if file is None else load_network(build, specs, file)

    return Family(name, (spec,), build)


FAMILIES = (
    *catalog_affect.FAMILIES,  # `mae` comes before `vit`, as a checkpoint may fit both
    Family("hog", (HOG_SPEC,), _build_hog),
    *TIMM_FAMILIES,
    _iresnet(18, 24_025_600),
    _iresnet(34, 34_139_328),
    _iresnet(50, 43_590_848),
    _iresnet(100, 65_156_160),
    _iresnet(200, 118_833_920),
    *catalog_dino.FAMILIES,
    *catalog_faces.FAMILIES,
    *catalog_hsemotion.FAMILIES,
    ANY_TIMM,
)
