"""Families of networks that timm has, under short names, and the family of all others. Loads no torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from abaw.backbones.registry import Builder, Built, Family, Fit
from abaw.backbones.spec import BackboneSpec, ImageInput
from abaw.backbones.vision.timm_names import TIMM

if TYPE_CHECKING:
    import torch


def _build_timm(specs: Sequence[BackboneSpec], file: Path | None) -> "torch.nn.Module | Built":
    from abaw.backbones.vision.timm_models import build_timm

    return build_timm(specs, file)


def _fit_timm(
    specs: Sequence[BackboneSpec], state: "dict[str, torch.Tensor]"
) -> "tuple[Sequence[BackboneSpec], dict[str, torch.Tensor]]":
    from abaw.backbones.vision.timm_weights import convert

    return convert(specs, state)


def timm_family(
    name: str,
    model: str,
    width: int,
    parameters: int,
    licence: str,
    *,
    image: ImageInput = ImageInput(224),  # noqa: B008  it is frozen
    outputs: tuple[str, ...] = ("pooled",),
    fit: Fit = _fit_timm,
    build: Builder = _build_timm,
) -> Family:
    """A model with timm's weights. Its backbones are `name-output`, or `name` for a single output.

    Args:
        name: of the family.
        model: of timm.
        width: of each output.
        parameters: number of weights.
        licence: of the weights.
        image: its input.
        outputs: of "mean", "cls" and "pooled".
        fit, build: for checkpoints in other layouts than timm converts.
    """
    specs = tuple(
        BackboneSpec(
            name=name if len(outputs) == 1 else f"{name}-{output}",
            family=name,
            output=output,
            modality="vision",
            shape=(width,),
            architecture=f"timm {model}",
            network=f"{TIMM}{model}",
            weights="timm",
            image=image,
            parameters=parameters,
            licence=licence,
        )
        for output in outputs
    )
    return Family(name, specs, build, fit)


def _resolve_timm(name: str) -> BackboneSpec | None:
    """`timm/<model>`, and other sizes and crops of registered networks of timm: `vit-mean@112+center`."""
    if name.startswith(TIMM):
        from abaw.backbones.vision.timm_models import timm_spec

        return timm_spec(name)
    if "@" in name or "+" in name:
        from abaw.backbones.vision.timm_models import sized_spec

        return sized_spec(name)
    return None


ANY_TIMM = Family("timm", (), _build_timm, resolve=_resolve_timm, syntax=f"{TIMM}<any timm model>")
