"""The outputs of a timm model, found on the meta device, where nothing is computed or stored."""

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import timm
import torch
from torch import Tensor, nn

from abaw.backbones.spec import ImageInput
from abaw.backbones.vision.timm_arguments import Options, draw
from abaw.backbones.vision.timm_names import POOLED, show_size
from abaw.core.errors import UsageError, first_line


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
    """The outputs of a model.

    Attributes:
        size: height and width of its input.
        tokens: of its last layer; None if it ends in something else.
        ending: what it ends in, in words.
        width: of a token.
        pooled: width of its pooled output.
        parameters: number of weights.
        bare_class: its class token is not normed, because the network norms the mean of the patch tokens instead.
    """

    size: tuple[int, int]
    tokens: Tokens | None
    ending: str
    width: int
    pooled: int
    parameters: int
    bare_class: bool


@lru_cache
def sketch(model: str, options: Options, size: tuple[int, int]) -> Sketch:
    """The outputs of a model for images of a size.

    Raises:
        UsageError: it does not accept them, or gives no features of images.
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
    """Check that patches fill an image: networks with position embeddings would leave out pixels at its edge.

    Raises:
        UsageError: patches do not fill it.
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
    """The row of tokens in the result of `forward_features`, (n, tokens, width); None if there is no such row."""
    if not isinstance(hidden, Tensor) or hidden.ndim != 3:
        return None
    classes = _class_tokens(model)
    n_first = getattr(model, "num_prefix_tokens", None)
    n_first = classes if n_first is None else int(n_first)
    return Tokens(n_first, hidden.shape[1] - n_first, classes > 0 and n_first > 0)


def _class_tokens(model: Any) -> int:
    """How many class tokens a network has, with distillation tokens in the same parameter."""
    holders = (model, getattr(model, "embeds", None))  # of NaFlexViT
    for holder in holders:
        for name in ("cls_token", "cls_token4"):  # of CoaT's last scale
            token = getattr(holder, name, None)
            if isinstance(token, Tensor):
                return token.shape[1]
    return 0


def mean_norm(model: Any) -> nn.Module:
    """The norm of the mean of the patch tokens, in networks that do not norm the tokens themselves."""
    if isinstance(getattr(model, "fc_norm", None), nn.Module):
        return model.fc_norm
    if getattr(model, "norm", None) is None:  # Hiera norms in its head
        return getattr(getattr(model, "head", None), "norm", None) or nn.Identity()
    return nn.Identity()


def _ending(hidden: Any) -> str:
    if not isinstance(hidden, Tensor):
        return "several rows of tokens or maps of features"
    return {2: "one vector", 3: "tokens", 4: "a map of features"}.get(hidden.ndim, "something else")


def why_not(spec_name: str, model: str, output: str, outputs: Sketch) -> str:
    """Why a model has no such output, and which one to use; "" if it has it."""
    base = spec_name.replace(f"-{output}", "", 1)
    tokens = outputs.tokens
    if output == POOLED:
        instead = f"Take {base}-mean." if tokens else "Take another model."
        return "" if outputs.pooled else f"{model} has no pooled output. {instead}"
    if tokens is None:
        instead = f"Use {base} for its pooled output." if outputs.pooled else "Take another model."
        return f"{model} ends in {outputs.ending}, not in one row of tokens. {instead}"
    if output == "mean" and tokens.n_patches < 1:
        return f"{model} gives its class token alone, without patch tokens. Use {base}-cls."
    if output == "cls" and not tokens.has_class:
        return f"{model} has patch tokens but no class token. Use {base}-mean."
    return ""


def image_input(config: Mapping[str, Any], size: tuple[int, int], center: bool) -> ImageInput:
    """timm's preprocessing of a model at some size, with timm's crop or the whole crop."""
    data = timm.data.resolve_data_config(pretrained_cfg=dict(config))
    image = ImageInput(
        size[0] if size[0] == size[1] else size,
        tuple(data["mean"]),
        tuple(data["std"]),
        "bilinear" if data["interpolation"] == "bilinear" else "bicubic",
    )
    if not center:
        return image
    mode = data["crop_mode"]
    return replace(image, crop=mode if mode in ("squash", "border") else "center", crop_pct=float(data["crop_pct"]))
