"""What a backbone is: its spec (data), its network (callable), and the registry of names.

A spec is data alone and loads no torch. Names are `family-output`; one pass of a family's network gives all of its
outputs, so that several features of one family cost one forward pass.
"""

import difflib
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from abaw import __version__
from abaw.errors import UsageError

if TYPE_CHECKING:
    import torch

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
UNTRAINED = "untrained"  # the weights of a network that was asked for with --untrained


@dataclass(frozen=True)
class ImageInput:
    """How a uint8 RGB face crop becomes a network's input: resized to a square, scaled to [0, 1], normalised.

    Attributes:
        size: side in pixels.
        mean, std: per channel R, G, B, on the [0, 1] scale.
        interpolation: how it is resized, always antialiased.
    """

    size: int
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"


@dataclass(frozen=True)
class BackboneSpec:
    """Everything that fixes a feature, apart from the values of the weights.

    Attributes:
        name: `family-output`, or the family alone for its main output.
        family: what shares one network and one forward pass.
        output: which of the network's outputs this is.
        modality: frames ("vision") or sound ("audio").
        shape: shape of the feature of one frame.
        architecture: the published network, as its authors or timm call it.
        weights: where the weights come from: "none" (it has none), "timm" (downloaded by timm), "file" (only from a
            file), "untrained".
        image: preprocessing of a frame; None for sound.
        classes: names of the outputs in order, where the feature is made of class scores.
        parameters: number of weights.
        licence: what to know before using the public weights.
    """

    name: str
    family: str
    output: str
    modality: Literal["vision", "audio"]
    shape: tuple[int, ...]
    architecture: str
    weights: str
    image: ImageInput | None = None
    classes: tuple[str, ...] = ()
    parameters: int = 0
    licence: str = ""

    def fingerprint(self, weights_sha256: str | None, view: str = "") -> str:
        """sha256 over the spec, the weights and the view: equal if and only if features are comparable."""
        fixed = {key: value for key, value in asdict(self).items() if key not in ("parameters", "licence")}
        text = json.dumps({"spec": fixed, "weights": weights_sha256, "view": view}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


# A builder gets the specs that are wanted of its family and the weights file (None: the default ones), and gives the
# network with its weights loaded. It imports torch itself.
Builder = Callable[[Sequence[BackboneSpec], Path | None], "torch.nn.Module"]


@dataclass(frozen=True)
class Family:
    """Backbones that share a network: their specs by name, and the builder."""

    specs: dict[str, BackboneSpec]
    build: Builder


_FAMILIES: dict[str, Family] = {}


def register(*specs: BackboneSpec) -> Callable[[Builder], Builder]:
    """Decorator of a builder: makes the specs of its family known by name."""

    def add(build: Builder) -> Builder:
        assert len({spec.family for spec in specs}) == 1, "one builder serves one family"
        _FAMILIES[specs[0].family] = Family({spec.name: spec for spec in specs}, build)
        return build

    return add


def list_specs() -> list[BackboneSpec]:
    """Specs of all registered backbones; `timm/<model>` names come on top of these."""
    _load_catalog()
    return [spec for family in _FAMILIES.values() for spec in family.specs.values()]


def get_spec(name: str) -> BackboneSpec:
    """The spec of a backbone name.

    Raises:
        UsageError: no backbone has this name; the message lists near ones.
    """
    return _find(name)[0]


def _find(name: str) -> tuple[BackboneSpec, Builder]:
    _load_catalog()
    if name.startswith("timm/"):
        from abaw.extract.vision.timm_models import build_timm, timm_spec

        return timm_spec(name), build_timm
    for family in _FAMILIES.values():
        if name in family.specs:
            return family.specs[name], family.build
    known = [spec.name for spec in list_specs()]
    near = difflib.get_close_matches(name, known, n=3)
    hint = f"Did you mean {' or '.join(near)}?" if near else f"Known are: {', '.join(known)}, timm/<any timm model>."
    raise UsageError(f"Unknown backbone {name!r}. {hint} `abaw list backbones` shows them all.")


def _load_catalog() -> None:
    import abaw.extract.vision.catalog  # noqa: F401  registers the specs


class Backbone:
    """One network, ready on a device: uint8 images in, features out.

    Attributes:
        specs: the outputs that are wanted, all of one family.
        weights_sha256: of the weights file; None for a backbone without weights.
        precision: "float32" or "bfloat16".
    """

    def __init__(
        self,
        specs: Sequence[BackboneSpec],
        network: "torch.nn.Module",
        weights_sha256: str | None,
        device: "torch.device",
        precision: str,
    ) -> None:
        import torch

        self.specs = tuple(specs)
        self.weights_sha256 = weights_sha256
        self.device = device
        self.precision = precision
        # A network that only computes in float32 (histograms, say) says so itself.
        self._dtype = torch.float32 if getattr(network, "float32_only", False) else getattr(torch, precision)
        self._network = network.eval().requires_grad_(False).to(device=device, dtype=self._dtype)

    @property
    def spec(self) -> BackboneSpec:
        """The spec, of the first output if there are several."""
        return self.specs[0]

    def fingerprint(self, spec: BackboneSpec, view: str = "") -> str:
        """Fingerprint of one output of this backbone."""
        return spec.fingerprint(self.weights_sha256, view)

    def preprocess(self, images: "torch.Tensor") -> "torch.Tensor":
        """Model input from (n, height, width, 3) uint8 RGB images on any device: (n, 3, size, size), normalised."""
        from abaw.extract.vision.preprocess import prepare_images

        assert self.spec.image is not None, "sound has its own preprocessing"
        return prepare_images(images.to(self.device, non_blocking=True), self.spec.image, self._dtype)

    def __call__(self, inputs: "torch.Tensor") -> "torch.Tensor | dict[str, torch.Tensor]":
        """Features from model input: (n, *shape) float, or a dict of them by backbone name where several are wanted."""
        import torch

        with torch.inference_mode():
            outputs = self._network(inputs)
        if len(self.specs) == 1:
            return outputs[self.spec.output]
        return {spec.name: outputs[spec.output] for spec in self.specs}


def create_backbone(
    names: str | Sequence[str],
    weights: Path | str | None = None,
    device: str = "cpu",
    *,
    precision: str = "float32",
    untrained: bool = False,
) -> Backbone:
    """Build a backbone by name, or several outputs of one family by their names.

    Args:
        names: `vit-mean`, or `("vit-mean", "vit-cls")`: one network, one pass.
        weights: a checkpoint file; None takes the default weights.
        device: a torch device.
        precision: "float32" or "bfloat16".
        untrained: random weights (seed 0) instead of trained ones; recorded in the spec.

    Raises:
        UsageError: an unknown name, names of several families, or both weights and untrained.
        CheckpointError: the weights are not there or do not fit.
    """
    import torch

    from abaw.extract.weights import default_weights, file_sha256

    names = (names,) if isinstance(names, str) else tuple(names)
    found = [_find(name) for name in names]
    specs, build = [spec for spec, _ in found], found[0][1]
    if len({spec.family for spec in specs}) > 1:
        raise UsageError(f"{', '.join(names)} are not outputs of one network. Create one backbone for each.")
    if untrained and weights is not None:
        raise UsageError(f"{names[0]} was given a weights file and --untrained. Choose one.")
    if specs[0].weights == "none":
        if weights is not None:
            raise UsageError(f"Backbone {names[0]} has no weights. Leave out {weights}.")
        return Backbone(specs, build(specs, None), None, torch.device(device), precision)
    if untrained:
        specs = [replace(spec, weights=UNTRAINED) for spec in specs]
        torch.manual_seed(0)
        return Backbone(specs, build(specs, None), None, torch.device(device), precision)
    file = Path(weights) if weights is not None else default_weights(specs[0])
    network = build(specs, file)
    sha256 = file_sha256(file) if file is not None else getattr(network, "weights_sha256", None)
    return Backbone(specs, network, sha256, torch.device(device), precision)


def describe(backbone: Backbone, spec: BackboneSpec, view: str) -> dict[str, Any]:
    """What the store keeps of a feature's making: the arguments of `FeatureStore.add_feature`."""
    return {
        "spec": {**asdict(spec), "view": view, "abaw": __version__},
        "weights_sha256": backbone.weights_sha256,
        "fingerprint": backbone.fingerprint(spec, view),
    }
