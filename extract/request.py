"""What to extract: the options of a run, and the networks and features that they ask for."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from abaw.backbones.backbone import create_backbone
from abaw.backbones.registry import get_spec
from abaw.backbones.spec import BackboneSpec
from abaw.backbones.vision.views import HFLIP, parse_view
from abaw.core.devices import pick_device
from abaw.core.errors import CheckpointError, UsageError
from abaw.core.files import Place, is_url
from abaw.core.records import FLOAT32
from abaw.extract.feature import Feature
from abaw.extract.precision import AUTO, BFLOAT16, Precisions, stored_precisions

BATCH_SIZES = {"cuda": 256, "cpu": 32}


@dataclass(frozen=True)
class ExtractOptions:
    """What to extract, from where to where.

    Attributes:
        data: folder in the official layout.
        store: the store to fill.
        backbones: `[NAME=]BACKBONE[:WEIGHTS]` each.
        views: of the frames, beside the plain one: "hflip", "mask0.75".
        n_views: how many differently masked views of each frame.
        device: "auto" takes a GPU if there is one.
        precision: "auto" is what the feature has in the store, else bf16 on a GPU and fp32 elsewhere.
        batch_size: frames in a batch; 0 takes 256 on a GPU and 32 elsewhere.
        fps: frame rate of videos without a video file.
        untrained: random weights.
        part: empty, or `I/N`: of N parts with about equally many frames, only number I.
    """

    data: Path
    store: Place
    backbones: tuple[str, ...]
    views: tuple[str, ...] = ()
    n_views: int = 1
    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    batch_size: int = 0
    fps: float | None = None
    untrained: bool = False
    part: str = ""

    def absolute(self) -> "ExtractOptions":
        """The same, with paths that do not depend on the working directory."""
        store = self.store if is_url(self.store) else Path(self.store).absolute()
        parts = [_split(text) for text in self.backbones]
        backbones = tuple(
            f"{name}:{Path(weights).expanduser().absolute()}" if weights else name for name, weights in parts
        )
        return replace(self, data=Path(self.data).absolute(), store=store, backbones=backbones)


@dataclass(frozen=True)
class Request:
    """A backbone that was asked for: the feature's name, the backbone's, and a weights file."""

    feature: str
    spec: BackboneSpec
    weights: Path | None

    @classmethod
    def parse(cls, text: str) -> "Request":
        """Read `[NAME=]BACKBONE[:WEIGHTS]`; the feature is named after the backbone, with - for /, @, + and :."""
        backbone, weights = _split(text)  # a file's name may have any = after that
        name, equals, rest = backbone.partition("=")
        backbone = rest if equals else name
        if (equals and not name) or weights == "":
            raise UsageError(f"--backbone wants [NAME=]BACKBONE[:WEIGHTS], found {text!r}.")
        feature = name if equals else re.sub("[/@+:]", "-", backbone)
        return cls(feature, get_spec(backbone), Path(weights).expanduser() if weights else None)


def _split(text: str) -> tuple[str, str | None]:
    """The backbone and its weights, which are "" after a colon with nothing behind it, None without one."""
    backbone, colon, weights = text.partition(":")
    if backbone.rpartition("=")[2] == "timm/hf-hub":  # the colon is part of the name
        model, colon, weights = weights.partition(":")
        backbone = f"{backbone}:{model}"
    return backbone, weights if colon else None


def create_features(
    options: ExtractOptions, failed: dict[str, str] | None = None, on_gpu: bool | None = None
) -> list[Feature]:
    """Load the networks that the options ask for, one per family and weights file.

    Args:
        failed: takes, by the feature's name, what was wrong with weights that could not be loaded; the others go on.
        on_gpu: whether what is new will be computed on a GPU; None where that is this process's own.

    Raises:
        UsageError: unknown names, or options that exclude each other.
        CheckpointError: weights could not be loaded, and `failed` is not given or nothing is left to go on with.
    """
    device = pick_device(options.device)
    on_gpu = device.type == "cuda" if on_gpu is None else on_gpu
    asked = [name for view in options.views for name in parse_view(view, _several(view, options.n_views))]
    views = list(dict.fromkeys(asked))
    requests = [Request.parse(text) for text in options.backbones]
    bases = [request.feature for request in requests]
    stored = stored_precisions(options.store, bases) if options.precision == AUTO else {}
    precisions = Precisions(options.precision, BFLOAT16 if on_gpu else FLOAT32, stored)
    features: list[Feature] = []
    waiting, errors = _by_pass(requests), []
    for group in waiting:
        wanted, weights = list(dict.fromkeys(request.spec.name for request in group)), group[0].weights
        mine = [
            (request, view, _named(request.feature, view)) for request in group for view in _views_of(request, views)
        ]
        # the finest one first: the others can be made of it
        several = sorted({precisions.of(name) for _, _, name in mine}, key=[FLOAT32, BFLOAT16].index)
        try:
            backbone = create_backbone(wanted, weights, str(device), precision=several[0], untrained=options.untrained)
        except CheckpointError as error:
            if failed is None:
                raise
            if len(wanted) > 1:  # one of them may be to blame, as a layer that the network does not have
                waiting += [[request for request in group if request.spec.name == name] for name in wanted]
                continue
            failed |= {request.feature: str(error) for request in group}
            errors.append(error)
            continue
        made = {spec.name: spec for spec in backbone.specs}
        computing = {precision: backbone.in_precision(precision) for precision in several}
        features += [
            Feature(name, computing[precisions.of(name)], made[request.spec.name], view) for request, view, name in mine
        ]
    if errors and not features:
        raise errors[0]
    _check_single([feature.name for feature in features])
    return features


def _by_pass(requests: Sequence[Request]) -> list[list[Request]]:
    """The requests that one pass of one network serves, together."""
    groups: dict[tuple[object, ...], list[Request]] = {}
    for request in requests:
        spec = request.spec
        groups.setdefault((spec.family, spec.options, spec.image, request.weights), []).append(request)
    return list(groups.values())


def _check_single(names: Sequence[str]) -> None:
    doubled = next((name for name in names if names.count(name) > 1), None)
    if doubled:
        raise UsageError(f"Two backbones would write feature {doubled!r}. Name one of them: NEWNAME=BACKBONE.")


def _views_of(request: Request, views: Sequence[str]) -> tuple[str, ...]:
    """The plain view and others; sound has no mirror image."""
    return ("", *views) if request.spec.modality == "vision" else ("",)


def _several(view: str, n_views: int) -> int:
    """There is one mirror image, however many masked views are wanted beside it."""
    return 1 if view == HFLIP else n_views


def _named(feature: str, view: str) -> str:
    return f"{feature}@{view}" if view else feature
