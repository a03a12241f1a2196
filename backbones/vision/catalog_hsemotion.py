"""Visual backbones of HSEmotion, for expressions, valence and arousal. Only the builders load torch."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from abaw.backbones.registry import Built, Family
from abaw.backbones.spec import BackboneSpec, ImageInput
from abaw.core.errors import CheckpointError

if TYPE_CHECKING:
    import torch

    State = dict[str, torch.Tensor]

# HSEmotion numbers its classes by the alphabet; models of 7 classes lack contempt
HSEMOTION = ("anger", "contempt", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")
AFFECT = ("valence", "arousal")
N_WITH_AFFECT = len(HSEMOTION) + len(AFFECT)
HSEMOTION_LICENCE = "Apache-2.0 (HSEmotion); trained on VGGFace2 and AffectNet, which are for research only"


def _n_outputs(specs: Sequence[BackboneSpec], default: int) -> int:
    return int(specs[0].option("outputs", None) or default)


def _fit_outputs(
    specs: Sequence[BackboneSpec], n_outputs: int, default: int, named: Mapping[int, tuple[str, ...]]
) -> list[BackboneSpec]:
    """Specs for a last layer with `n_outputs`, whose classes have names if their number determines the order.

    Valence and arousal are left out if the layer has none, unless nothing else was requested.
    """
    if n_outputs != N_WITH_AFFECT:
        specs = [spec for spec in specs if spec.output != "va"] or specs
    fitted = [spec.with_options(outputs=n_outputs if n_outputs != default else None) for spec in specs]
    n_classes = len(HSEMOTION) if n_outputs == N_WITH_AFFECT else n_outputs
    return [
        replace(spec, shape=(n_classes,), classes=named.get(n_outputs, ())) if spec.output == "logits" else spec
        for spec in fitted
    ]


def _note_outputs(built: Built, requested: Sequence[BackboneSpec], file: Path, default: int) -> Built:
    """The loaded network, with a note if the file has other outputs than usual.

    Raises:
        CheckpointError: valence and arousal were requested, and the file has neither.
    """
    specs = built.specs or requested
    n_outputs = _n_outputs(specs, default)
    affect = [spec.name for spec in requested if spec.output == "va"]
    if affect and n_outputs != N_WITH_AFFECT:
        raise CheckpointError(
            f"{file} has the scores of {n_outputs} classes, but neither valence nor arousal. Omit {affect[0]}, or "
            f"pass weights with {N_WITH_AFFECT} outputs, such as those of HSEmotion with mtl in their names."
        )
    if n_outputs == default:
        return built
    named = next((spec.classes for spec in specs if spec.classes), ())
    classes = f"those of HSEmotion: {', '.join(named)}" if named else "in an unknown order"
    has_logits = any(spec.output == "logits" for spec in requested)
    note = f"{file} has {n_outputs} outputs instead of {default}" + (f", {classes}." if has_logits else ".")
    return replace(built, notes=(*built.notes, note))


# outputs by number; with 10, valence and arousal come last
EMOTIEFFNET_CLASSES = {
    N_WITH_AFFECT: HSEMOTION,
    8: HSEMOTION,
    7: tuple(name for name in HSEMOTION if name != "contempt"),
}


def _emotieffnet(family: str, width: int, size: int, default: int, parameters: int) -> Family:
    usual = {
        "embedding": ((width,), ()),
        "logits": ((len(HSEMOTION),), HSEMOTION),
        "va": ((len(AFFECT),), AFFECT),
    }
    specs = tuple(
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
    )

    def fit(specs: Sequence[BackboneSpec], state: "State") -> "tuple[Sequence[BackboneSpec], State]":
        """HSEmotion's linear layer is alone, or the first of a Sequential, and has 7, 8 or 10 outputs."""
        state = {key.replace("classifier.0.", "classifier."): value for key, value in state.items()}
        n_outputs = len(state["classifier.bias"]) if "classifier.bias" in state else default
        return _fit_outputs(specs, n_outputs, default, EMOTIEFFNET_CLASSES), state

    def build(specs: Sequence[BackboneSpec], file: Path | None) -> "torch.nn.Module | Built":
        from abaw.backbones.vision.emotieffnet import EmotiEffNet
        from abaw.backbones.weights import load_network

        if file is None:
            n_outputs = _n_outputs(specs, default)
            return EmotiEffNet(family, n_outputs, n_outputs == N_WITH_AFFECT)
        return _note_outputs(load_network(build, specs, file, fit), specs, file, default)

    return Family(family, specs, build, fit)


# Of 8 or 7 classes there are models of HSEmotion and of DDAMFN's authors, who number them differently.
EMOTIDDAMFN_CLASSES = {N_WITH_AFFECT: HSEMOTION}


def fit_ddamfn(specs: Sequence[BackboneSpec], state: "State") -> "tuple[Sequence[BackboneSpec], State]":
    """Its checkpoints may hold a norm of the scores, `bn`, which the authors' program never applies."""
    state = {key: value for key, value in state.items() if not key.startswith("bn.")}
    n_outputs = len(state["fc.bias"]) if "fc.bias" in state else N_WITH_AFFECT
    return _fit_outputs(specs, n_outputs, N_WITH_AFFECT, EMOTIDDAMFN_CLASSES), state


_ddamfn = partial(
    BackboneSpec,
    family="emotiddamfn",
    modality="vision",
    architecture="MT-EmotiDDAMFN of HSEmotion: DDAMFN++ with 2 attention heads",
    weights="file",
    image=ImageInput(112, interpolation="bilinear"),
    parameters=4_188_946,
    licence="of HSEmotion and the DDAMFN authors; trained on MS-Celeb-1M and AffectNet, for research only",
)


def _build_ddamfn(specs: Sequence[BackboneSpec], file: Path | None) -> "torch.nn.Module | Built":
    from abaw.backbones.vision.ddamfn import Ddamfn
    from abaw.backbones.weights import load_network

    if file is None:
        n_outputs = _n_outputs(specs, N_WITH_AFFECT)
        return Ddamfn(n_outputs, n_outputs == N_WITH_AFFECT)
    return _note_outputs(load_network(_build_ddamfn, specs, file, fit_ddamfn), specs, file, N_WITH_AFFECT)


DDAMFN = (
    _ddamfn(name="emotiddamfn", output="embedding", shape=(512,)),
    _ddamfn(name="emotiddamfn-logits", output="logits", shape=(len(HSEMOTION),), classes=HSEMOTION),
    _ddamfn(name="emotiddamfn-va", output="va", shape=(len(AFFECT),), classes=AFFECT),
)
FAMILIES = (
    _emotieffnet("emotieffnet-b0", 1280, 224, N_WITH_AFFECT, 4_020_358),
    _emotieffnet("emotieffnet-b2", 1408, 260, len(HSEMOTION), 7_712_266),
    Family("emotiddamfn", DDAMFN, _build_ddamfn, fit_ddamfn),
)
