"""Backbones as users name them: `[NAME=]BACKBONE[:WEIGHTS]`, where MODULE:CLASS is a backbone, too."""

import re

from abaw.backbones.registry import is_known
from abaw.core.errors import UsageError


def split_weights(text: str) -> tuple[str, str | None]:
    """The backbone and its weights: "" if nothing follows the colon, None without a colon."""
    backbone, colon, weights = text.partition(":")
    if backbone.rpartition("=")[2] == "timm/hf-hub":  # the colon is part of the name
        model, colon, weights = weights.partition(":")
        backbone = f"{backbone}:{model}"
    elif _names_class(backbone.rpartition("=")[2], weights.partition(":")[0]):
        if ":" in weights:
            raise UsageError(f"{text}: a class loads its own weights. Leave out what follows the second colon.")
        return f"{backbone}:{weights}", None
    return backbone, weights if colon else None


def _names_class(module: str, name: str) -> bool:
    """True for the parts of MODULE:CLASS, and not for a backbone and a file called like a class."""
    return name.isidentifier() and all(part.isidentifier() for part in module.split(".")) and not is_known(module)


def parse_backbone(text: str) -> tuple[str, str, str | None]:
    """Feature, backbone and weights; the feature is called like the backbone, with - for /, @, + and :, if it has no name.

    Raises:
        UsageError: a part is empty.
    """
    backbone, weights = split_weights(text)  # first, as the name of the file may contain =
    name, equals, rest = backbone.partition("=")
    backbone = rest if equals else name
    if (equals and not name) or weights == "":
        raise UsageError(f"--backbone takes [NAME=]BACKBONE[:WEIGHTS], found {text!r}.")
    return name if equals else re.sub("[/@+:]", "-", backbone), backbone, weights
