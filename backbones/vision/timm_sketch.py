"""What a model of timm gives, found by drawing it on the meta device, where nothing is computed or held."""

import difflib
import json
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, cast

import timm
import torch
from timm.models._input import get_model_args
from torch import Tensor, nn

from abaw.backbones.spec import BackboneSpec, ImageInput
from abaw.backbones.vision.catalog_affect import GLOBAL_POOL
from abaw.backbones.vision.timm_names import POOLED, TIMM, show_size
from abaw.core.errors import UsageError, some_of

SHOWN_TAGS = 12
QUICKGELU = "quickgelu"
ANY_SIZE = ("dynamic_img_size", "strict_img_size", "use_naflex")  # arguments of networks that are made with a size
Options = tuple[tuple[str, str | int | float | bool], ...]  # of a spec: arguments of timm.create_model


@dataclass(frozen=True)
class Tokens:
    """The row of tokens that a network ends in.

    Attributes:
        n_first: tokens before the patches: class, distillation and register tokens.
        n_patches: tokens of patches.
        has_class: the first one is a class token.
    """

    n_first: int
    n_patches: int
    has_class: bool


@dataclass(frozen=True)
class Sketch:
    """What a model gives.

    Attributes:
        size: height and width of its input.
        tokens: of its last layer; None where it ends in something else.
        ending: what it ends in, in words.
        width: of a token.
        pooled: width of its pooled output.
        parameters: number of weights.
        bare_class: its class token is not normed, as the network norms the mean of the patch tokens instead.
    """

    size: tuple[int, int]
    tokens: Tokens | None
    ending: str
    width: int
    pooled: int
    parameters: int
    bare_class: bool


def check_model(model: str) -> str:
    """The model of timm that computes what a name asks for: itself, or its variant with QuickGELU.

    timm keeps weights that were trained with QuickGELU (OpenAI's CLIP, MetaCLIP, DFN) under models with GELU, too, and
    says in a note that these give other features than the original.

    Raises:
        UsageError: timm has no such model, or no such weights of it.
    """
    name, _, tag = model.partition(".")
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        raise UsageError(f"timm has no model {name!r}." + (f" Did you mean {', '.join(near)}?" if near else ""))
    try:
        config = timm.get_pretrained_cfg(model)
    except RuntimeError as error:  # no such tag
        tags = some_of([f"{name}.{known}" for known in tags_of(name)], SHOWN_TAGS)
        has = f"There are {tags}." if tags else "There are none: leave out what follows the dot."
        raise UsageError(f"timm has no weights {tag!r} of {name}. {has}") from error
    if config is None or QUICKGELU in name or not tag:
        return model
    if not any(QUICKGELU in note.lower() for note in config.notes or ()):
        return model
    quick = name.replace("_clip_", f"_clip_{QUICKGELU}_")
    return f"{quick}.{tag}" if tag in tags_of(quick) else model


def tags_of(name: str) -> list[str]:
    """Tags of the weights that timm has of a model."""
    return [full.partition(".")[2] for full in timm.list_pretrained(f"{name}.*")]


def config_of(model: str) -> dict[str, Any]:
    """What timm says of a model: its input, where its weights are, what its classifier is called."""
    found = timm.get_pretrained_cfg(model)
    return found.to_dict() if found else dict(cast(Any, draw(model)).pretrained_cfg)


def takes_size(model: str, arguments: Mapping[str, Any]) -> bool:
    """True if a network is made for one size of images; the others take any."""
    return bool(config_of(model).get("fixed_input_size")) or not arguments.keys().isdisjoint(ANY_SIZE)


@lru_cache
def draw(model: str, options: Options = ()) -> nn.Module:
    """The model without its classifier on the meta device.

    Raises:
        UsageError: timm cannot make it so.
    """
    try:
        with torch.device("meta"):
            return timm.create_model(model, num_classes=0, **to_arguments(model, options)).eval()
    except Exception as error:  # each architecture has its own ways to refuse arguments
        given = ", ".join(f"{name}={value}" for name, value in options) or "its own settings"
        raise UsageError(f"timm cannot make {model} with {given} ({first_line(error)}).") from error


@lru_cache
def sketch(model: str, options: Options, size: tuple[int, int]) -> Sketch:
    """What a model gives for images of a size.

    Raises:
        UsageError: it does not take them, or gives no features of images.
    """
    drawn: Any = draw(model, options)
    try:
        with torch.no_grad():
            hidden = drawn.forward_features(torch.empty(2, 3, *size, device="meta"))
    except Exception as error:
        sides = f"{size[0]}x{size[1]}"
        raise UsageError(f"{model} gives no features of images of {sides} pixels ({first_line(error)}).") from error
    pooled = None
    with suppress(NotImplementedError, TypeError), torch.no_grad():  # encoders of language models pool nothing
        pooled = drawn.forward_head(hidden, pre_logits=True)
    tokens = find_tokens(drawn, hidden)
    norms_mean = isinstance(getattr(drawn, "norm", None), nn.Identity)
    return Sketch(
        size=size,
        tokens=tokens,
        ending=_ending(hidden),
        width=hidden.shape[-1] if tokens else 0,
        pooled=pooled.shape[-1] if isinstance(pooled, Tensor) and pooled.ndim == 2 else 0,
        parameters=sum(parameter.numel() for parameter in drawn.parameters()),
        bare_class=norms_mean and not isinstance(getattr(drawn, "fc_norm", nn.Identity()), nn.Identity),
    )


def check_patches(model: str, size: tuple[int, int]) -> None:
    """See that patches fill an image: networks with positions of patches would leave out pixels at its edge.

    Raises:
        UsageError: they do not.
    """
    patches = getattr(draw(model), "patch_embed", None)
    patch = getattr(patches, "patch_size", None)
    if (
        not getattr(patches, "grid_size", None)
        or isinstance(patch, int | None)
        or getattr(patches, "dynamic_img_pad", False)
    ):
        return
    if any(side % step for side, step in zip(size, patch, strict=True)):
        near = " or ".join(
            f"@{show_size((max(round_(size[0] / patch[0]), 1) * patch[0], max(round_(size[1] / patch[1]), 1) * patch[1]))}"
            for round_ in (math.floor, math.ceil)
        )
        raise UsageError(
            f"{model} is made of patches of {patch[0]}x{patch[1]} pixels, which do not fill an image of {size[0]}x{size[1]}. "
            f"Take {near}."
        )


def find_tokens(model: Any, hidden: Any) -> Tokens | None:
    """The row of tokens in what `forward_features` gave, (n, tokens, width); None where there is no such row."""
    if not isinstance(hidden, Tensor) or hidden.ndim != 3:
        return None
    classes = _class_tokens(model)
    n_first = getattr(model, "num_prefix_tokens", None)
    n_first = classes if n_first is None else int(n_first)
    return Tokens(n_first, hidden.shape[1] - n_first, classes > 0 and n_first > 0)


def _class_tokens(model: Any) -> int:
    """Class tokens (and those of distillation that lie in one parameter with them) that a network has."""
    holders = (model, getattr(model, "embeds", None))  # of NaFlexViT
    for holder in holders:
        for name in ("cls_token", "cls_token4"):  # of CoaT's last scale
            token = getattr(holder, name, None)
            if isinstance(token, Tensor):
                return token.shape[1]
    return 0


def mean_norm(model: Any) -> nn.Module:
    """What norms the mean of the patch tokens, where the network does not norm the tokens themselves."""
    if isinstance(getattr(model, "fc_norm", None), nn.Module):
        return model.fc_norm
    if getattr(model, "norm", None) is None:  # Hiera norms in its head
        return getattr(getattr(model, "head", None), "norm", None) or nn.Identity()
    return nn.Identity()


def _ending(hidden: Any) -> str:
    if not isinstance(hidden, Tensor):
        return "several rows of tokens or maps of features"
    return {2: "one vector", 3: "tokens", 4: "a map of features"}.get(hidden.ndim, "something else")


def why_not(spec_name: str, model: str, output: str, found: Sketch) -> str:
    """Why a model has no such output, and which one to take; "" where it has it."""
    base = spec_name.replace(f"-{output}", "", 1)
    tokens = found.tokens
    if output == POOLED:
        instead = f"Take {base}-mean." if tokens else "Take another model."
        return "" if found.pooled else f"{model} has no pooled output. {instead}"
    if tokens is None:
        instead = f"Use {base} for its pooled output." if found.pooled else "Take another model."
        return f"{model} ends in {found.ending}, not in one row of tokens. {instead}"
    if output == "mean" and tokens.n_patches < 1:
        return f"{model} gives its class token alone, without patch tokens. Use {base}-cls."
    if output == "cls" and not tokens.has_class:
        return f"{model} has patch tokens but no class token. Use {base}-mean."
    return ""


def image_input(config: Mapping[str, Any], size: tuple[int, int], center: bool) -> ImageInput:
    """timm's preprocessing of a model at some size: its crop, or the whole crop."""
    found = timm.data.resolve_data_config(pretrained_cfg=dict(config))
    image = ImageInput(
        size[0] if size[0] == size[1] else size,
        tuple(found["mean"]),
        tuple(found["std"]),
        "bilinear" if found["interpolation"] == "bilinear" else "bicubic",
    )
    if not center:
        return image
    mode = found["crop_mode"]
    return replace(image, crop=mode if mode in ("squash", "border") else "center", crop_pct=float(found["crop_pct"]))


def unusual(model: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Those arguments of a model that differ from what timm takes without them."""
    usual = get_model_args(draw(model))
    return {name: value for name, value in arguments.items() if name not in usual or usual[name] != value}


def to_arguments(model: str, options: Options) -> dict[str, Any]:
    """Arguments of timm.create_model that options stand for, without a size where the model takes any."""
    values = {name: _argument(name, value) for name, value in options}
    return {name: value for name, value in values.items() if name != "img_size" or takes_size(model, values)}


def _argument(name: str, value: Any) -> Any:
    if name == GLOBAL_POOL and value is True:
        return "avg"
    if name == "img_size" and isinstance(value, str):
        height, _, width = value.partition("x")
        return int(height), int(width)
    if isinstance(value, str) and value[:1] in ("[", "{"):
        found = json.loads(value)
        return tuple(found) if isinstance(found, list) else found
    return value


def as_option(name: str, value: Any) -> str | int | float | bool:
    """An argument of timm.create_model as an option of a spec keeps it."""
    if name == "img_size":
        sides = (value, value) if isinstance(value, int) else tuple(value)
        return show_size((int(sides[0]), int(sides[1])))
    return value if isinstance(value, str | int | float | bool) else json.dumps(value, sort_keys=True)


def model_of(spec: BackboneSpec) -> str:
    """The model of timm that a spec names."""
    return spec.network.removeprefix(TIMM)


def first_line(error: BaseException) -> str:
    """The first line of an error, without its full stop."""
    return (str(error) or type(error).__name__).splitlines()[0].strip().rstrip(".")
