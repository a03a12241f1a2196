"""Models of timm by name, and how options of a spec become arguments of `timm.create_model` and back."""

import difflib
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, cast

import timm
import torch
from timm.models._input import get_model_args
from torch import nn

from abaw.backbones.spec import BackboneSpec
from abaw.backbones.vision.pooling import GLOBAL_POOL
from abaw.backbones.vision.timm_names import TIMM, show_size
from abaw.core.errors import UsageError, first_line, some_of

SHOWN_TAGS = 12
QUICKGELU = "quickgelu"
ANY_SIZE = ("dynamic_img_size", "strict_img_size", "use_naflex")  # arguments of networks that are made with a size
Options = tuple[tuple[str, str | int | float | bool], ...]  # of a spec: arguments of timm.create_model


def model_of(spec: BackboneSpec) -> str:
    """The model of timm that a spec names."""
    return spec.network.removeprefix(TIMM)


def check_model(model: str) -> str:
    """The model of timm that a name stands for: the model itself, or its variant with QuickGELU.

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
        has = f"There are {tags}." if tags else "This model has no tags: leave out the dot and the text after it."
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
    """timm's configuration of a model: its input, the address of its weights, the name of its classifier."""
    config = timm.get_pretrained_cfg(model)
    return config.to_dict() if config else dict(cast(Any, draw(model)).pretrained_cfg)


@lru_cache
def draw(model: str, options: Options = ()) -> nn.Module:
    """The model without its classifier on the meta device.

    Raises:
        UsageError: timm cannot make it so.
    """
    try:
        with torch.device("meta"):
            return timm.create_model(model, num_classes=0, **to_arguments(model, options)).eval()
    except Exception as error:  # each architecture refuses arguments in its own way
        settings = ", ".join(f"{name}={value}" for name, value in options) or "its own settings"
        raise UsageError(f"timm cannot make {model} with {settings} ({first_line(error)}).") from error


def takes_size(model: str, arguments: Mapping[str, Any]) -> bool:
    """True if a network is built for one size of images; others accept any size."""
    return bool(config_of(model).get("fixed_input_size")) or not arguments.keys().isdisjoint(ANY_SIZE)


def to_arguments(model: str, options: Options) -> dict[str, Any]:
    """Arguments of timm.create_model for options, without a size if the model accepts any."""
    values = {name: _argument(name, value) for name, value in options}
    return {name: value for name, value in values.items() if name != "img_size" or takes_size(model, values)}


def _argument(name: str, value: Any) -> Any:
    if name == GLOBAL_POOL and value is True:
        return "avg"
    if name == "img_size" and isinstance(value, str):
        height, _, width = value.partition("x")
        return int(height), int(width)
    if isinstance(value, str) and value[:1] in ("[", "{"):
        content = json.loads(value)
        return tuple(content) if isinstance(content, list) else content
    return value


def unusual(model: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a model that differ from timm's defaults."""
    usual = get_model_args(draw(model))
    return {name: value for name, value in arguments.items() if name not in usual or usual[name] != value}


def as_option(name: str, value: Any) -> str | int | float | bool:
    """An argument of timm.create_model as the value of an option."""
    if name == "img_size":
        sides = (value, value) if isinstance(value, int) else tuple(value)
        return show_size((int(sides[0]), int(sides[1])))
    return value if isinstance(value, str | int | float | bool) else json.dumps(value, sort_keys=True)
