"""What to extract: the options of a run, and the networks and features that they ask for."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from abaw.devices import pick_device
from abaw.errors import UsageError
from abaw.extract.backbone import BackboneSpec, create_backbone, get_spec
from abaw.extract.sink import Feature
from abaw.extract.vision.views import HFLIP, parse_view
from abaw.places import Place, is_url

BATCH_SIZES = {"cuda": 256, "cpu": 32}
PRECISIONS = {"fp32": "float32", "bf16": "bfloat16"}


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
        precision: "auto" is bf16 on a GPU and fp32 elsewhere.
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
        parts = [text.partition(":") for text in self.backbones]
        backbones = tuple(
            f"{name}:{Path(weights).expanduser().absolute()}" if weights else name for name, _, weights in parts
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
        """Read `[NAME=]BACKBONE[:WEIGHTS]`; the feature is named after the backbone, with - for /."""
        backbone, colon, weights = text.partition(":")  # a file's name may have any = after that
        name, equals, rest = backbone.partition("=")
        backbone = rest if equals else name
        if (equals and not name) or (colon and not weights):
            raise UsageError(f"--backbone wants [NAME=]BACKBONE[:WEIGHTS], found {text!r}.")
        feature = name if equals else backbone.replace("/", "-")
        return cls(feature, get_spec(backbone), Path(weights).expanduser() if weights else None)


def create_features(options: ExtractOptions) -> list[Feature]:
    """Load the networks that the options ask for, one per family and weights file."""
    device = pick_device(options.device)
    on_gpu = device.type == "cuda"
    precision = (
        PRECISIONS["bf16" if on_gpu else "fp32"] if options.precision == "auto" else PRECISIONS[options.precision]
    )
    asked = [name for view in options.views for name in parse_view(view, _several(view, options.n_views))]
    views = list(dict.fromkeys(asked))
    requests = [Request.parse(text) for text in options.backbones]
    groups: dict[tuple[object, ...], list[Request]] = {}
    for request in requests:
        spec = request.spec
        groups.setdefault((spec.family, spec.options, spec.image, request.weights), []).append(request)
    features = []
    for (*_, weights), group in groups.items():
        wanted = list(dict.fromkeys(request.spec.name for request in group))
        backbone = create_backbone(wanted, weights, str(device), precision=precision, untrained=options.untrained)
        made = {spec.name: spec for spec in backbone.specs}
        for request in group:
            spec = made[request.spec.name]
            mine = ("", *views) if spec.modality == "vision" else ("",)  # sound has no mirror image
            features += [Feature(_named(request.feature, view), backbone, spec, view) for view in mine]
    names = [feature.name for feature in features]
    doubled = next((name for name in names if names.count(name) > 1), None)
    if doubled:
        raise UsageError(f"Two backbones would write feature {doubled!r}. Name one of them: NEWNAME=BACKBONE.")
    return features


def _several(view: str, n_views: int) -> int:
    """There is one mirror image, however many masked views are wanted beside it."""
    return 1 if view == HFLIP else n_views


def _named(feature: str, view: str) -> str:
    return f"{feature}@{view}" if view else feature
