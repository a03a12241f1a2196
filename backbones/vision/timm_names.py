"""Options in the names of timm networks: an output, another input size, and timm's own crop. Loads no torch.

`timm/vit_small_patch14_dinov2@224-mean`, `timm/resnet18+center`, `vit-cls@112x96`.
"""

import re
from dataclasses import dataclass

from abaw.core.errors import UsageError

TIMM = "timm/"
HUB = "hf-hub:"
LOCAL = "local-dir"
POOLED = "pooled"
EXTRA = re.compile(r"(?:-(?P<output>mean|cls)|@(?P<size>\d{2,4}(?:x\d{2,4})?)|\+(?P<crop>center))$")
KINDS = {"output": "an output", "size": "a size", "crop": "a crop"}
WHAT_GOES = "An output (-mean, -cls), a size (@224 or @HEIGHTxWIDTH) and +center may follow, each once."


@dataclass(frozen=True)
class TimmName:
    """The parts of a name.

    Attributes:
        model: what is left: a model of timm, `hf-hub:ORG/MODEL`, `local-dir`, or a family such as `vit`.
        output: "mean", "cls", or "" if missing.
        size: height and width of the input in pixels; None if missing.
        center: True for timm's own crop, False for the whole crop.
    """

    model: str
    output: str = ""
    size: tuple[int, int] | None = None
    center: bool = False

    @property
    def plain(self) -> str:
        """The name without size and crop."""
        return f"{self.model}-{self.output}" if self.output else self.model


def parse_name(name: str) -> TimmName:
    """Split a name, with or without `timm/` in front.

    Raises:
        UsageError: the name has an option twice, or one that is neither an output, a size nor a crop.
    """
    model, options = name.removeprefix(TIMM), dict[str, str]()
    while (extra := EXTRA.search(model)) is not None:
        kind = str(extra.lastgroup)
        if kind in options:
            raise UsageError(f"{name} gives {KINDS[kind]} twice. {WHAT_GOES}")
        options[kind] = extra[kind]
        model = model[: extra.start()]
    if any(mark in model for mark in "@+") and not model.startswith(HUB):
        wrong = model[min(model.find(mark) for mark in "@+" if mark in model) :]
        raise UsageError(f"{name} contains {wrong}, which has no meaning here. {WHAT_GOES}")
    return TimmName(model, options.get("output", ""), _sides(options.get("size")), "crop" in options)


def _sides(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    height, _, width = text.partition("x")
    return int(height), int(width or height)


def show_size(size: tuple[int, int]) -> int | str:
    """(224, 224) -> 224, (224, 160) -> "224x160": a size in a name or an option."""
    return size[0] if size[0] == size[1] else f"{size[0]}x{size[1]}"


def names_behind(feature: str) -> list[str]:
    """Names of backbones that a feature may be named after, the likeliest first: `timm-test_vit-96-center-mean`.

    A feature has - for the /, @ and + of its backbone's name.
    """
    names = [feature.replace("-", "/", 1), feature] if feature.startswith("timm-") else [feature]
    sized = [
        re.sub(r"-center(?=-|$)", "+center", re.sub(r"-(\d{2,4}(?:x\d{2,4})?)(?=-|\+|$)", r"@\1", name))
        for name in names
    ]
    return list(dict.fromkeys([*names, *sized]))
