"""Backbones as users name them: `[NAME=]BACKBONE[:WEIGHTS]`."""

import re

from abaw.core.errors import UsageError


def split_weights(text: str) -> tuple[str, str | None]:
    """The backbone and its weights: "" if nothing follows the colon, None without a colon."""
    backbone, colon, weights = text.partition(":")
    if backbone.rpartition("=")[2] == "timm/hf-hub":  # the colon is part of the name
        model, colon, weights = weights.partition(":")
        backbone = f"{backbone}:{model}"
    return backbone, weights if colon else None


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
