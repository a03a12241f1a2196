"""Visual backbones trained for or used on affect in faces: MAE, DAN and EMMA. Only the builders load torch."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from abaw.backbones.registry import Built, Family
from abaw.backbones.spec import BackboneSpec, ImageInput
from abaw.backbones.vision.pooling import GLOBAL_POOL, fit_pooling
from abaw.core.tasks import ACTION_UNITS, EXPRESSIONS

if TYPE_CHECKING:
    import torch

    State = dict[str, torch.Tensor]

IMAGENET_INPUT = ImageInput(224)
BILINEAR_INPUT = ImageInput(224, interpolation="bilinear")
# DAN and EMMA were trained on crops resized by torchvision's default, which is bilinear
DAN_INPUT = EMMA_INPUT = BILINEAR_INPUT
# Labels 0 to 7 of AffectNet, in the order of DAN's outputs; the 7-class version leaves out contempt.
AFFECTNET = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger", "contempt")
MAE_LICENCE = "CC-BY-NC 4.0 (MAE): not for commercial use"


def _mae(family: str, architecture: str, width: int, parameters: int) -> Family:
    specs = tuple(
        BackboneSpec(
            name=f"{family}-{output}",
            family=family,
            output=output,
            modality="vision",
            shape=(width,),
            architecture=architecture,
            weights="file",
            image=IMAGENET_INPUT,
            parameters=parameters,
            licence=MAE_LICENCE,
        )
        for output in ("mean", "cls")
    )
    # MAE resizes bicubic; systems that were fine-tuned on crops that are resized otherwise need the same here
    bilinear = tuple(replace(spec, name=f"{spec.name}-bilinear", image=BILINEAR_INPUT) for spec in specs)
    return Family(family, specs, _build_mae, fit_pooling, variants=bilinear)


def _build_mae(specs: Sequence[BackboneSpec], file: Path | None) -> "torch.nn.Module | Built":
    from abaw.backbones.vision.mae import SIZES, MaeEncoder
    from abaw.backbones.weights import load_network

    if file is None:
        return MaeEncoder(SIZES[specs[0].family], global_pool=bool(specs[0].option(GLOBAL_POOL, False)))
    built = load_network(_build_mae, specs, file, fit_pooling)
    bare = [spec.name for spec in built.specs or () if spec.option(GLOBAL_POOL, False) and spec.output == "cls"]
    if not bare:
        return built
    note = (
        f"{file} was fine-tuned with global pooling and norms no class token: {bare[0]} is as the last block left it."
    )
    return replace(built, notes=(*built.notes, note))


def fit_classes(specs: Sequence[BackboneSpec], state: "State") -> tuple[list[BackboneSpec], "State"]:
    """DAN has checkpoints of 8 classes, 7 (without contempt, the last), or those of another dataset."""
    n_classes = len(state["fc.weight"]) if "fc.weight" in state else len(AFFECTNET)
    if n_classes == len(AFFECTNET):
        return list(specs), state
    classes = AFFECTNET[:n_classes] if n_classes == len(AFFECTNET) - 1 else ()
    fitted = [spec.with_options(classes=n_classes) for spec in specs]
    return [
        replace(spec, shape=(n_classes,), classes=classes) if spec.output == "logits" else spec for spec in fitted
    ], state


def _n_classes(specs: Sequence[BackboneSpec]) -> int:
    return int(specs[0].option("classes", None) or len(AFFECTNET))


_dan = partial(
    BackboneSpec,
    family="dan",
    modality="vision",
    architecture="DAN: ResNet-18 and 4 cross attention heads",
    weights="file",
    image=DAN_INPUT,
    parameters=19_724_248,
    licence="MIT (DAN); trained on AffectNet, which is for research only",
)


def _build_dan(specs: Sequence[BackboneSpec], file: Path | None) -> "torch.nn.Module | Built":
    from abaw.backbones.vision.dan import Dan
    from abaw.backbones.weights import load_network

    if file is None:
        return Dan(_n_classes(specs))
    built = load_network(_build_dan, specs, file, fit_classes)
    n_classes = _n_classes(built.specs or specs)
    if n_classes == len(AFFECTNET):
        return built
    order = "an unknown order"
    if n_classes == len(AFFECTNET) - 1:
        order = "an order taken to be AffectNet's without contempt; those trained on RAF-DB have another order"
    note = f"{file} has {n_classes} classes instead of {len(AFFECTNET)}, in {order}."
    return replace(built, notes=(*built.notes, note))


_emma = partial(
    BackboneSpec,
    family="emma",
    modality="vision",
    architecture="EMMA: MAE ViT-B/16 and DAN",
    weights="file",
    image=EMMA_INPUT,
    parameters=105_934_830,
    licence=MAE_LICENCE,
)


def _build_emma(specs: Sequence[BackboneSpec], file: Path | None) -> "torch.nn.Module | Built":
    from abaw.backbones.vision.emma import Emma
    from abaw.backbones.weights import load_network

    return Emma() if file is None else load_network(_build_emma, specs, file)


DAN = (
    _dan(name="dan", output="logits", shape=(8,), classes=AFFECTNET),
    _dan(name="dan-head", output="head", shape=(512,)),
    _dan(name="dan-map", output="map", shape=(512,)),
)
EMMA = (
    _emma(name="emma", output="output", shape=(22,), classes=("valence", "arousal", *EXPRESSIONS, *ACTION_UNITS)),
    _emma(name="emma-hidden", output="hidden", shape=(768,)),
    _emma(name="emma-vit", output="vit", shape=(768,)),
    _emma(name="emma-dan", output="dan", shape=(8,), classes=AFFECTNET),
    _emma(name="emma-dan-head", output="dan-head", shape=(512,)),
)
FAMILIES = (
    _mae("mae", "MAE ViT-B/16", 768, 85_798_656),
    _mae("mae-l", "MAE ViT-L/16", 1024, 303_301_632),
    _mae("mae-h", "MAE ViT-H/14", 1280, 630_764_800),
    Family("dan", DAN, _build_dan, fit_classes),
    Family("emma", EMMA, _build_emma),
)
