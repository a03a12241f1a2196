"""What a backbone is: its network (callable) behind its spec (data), and the registry of names.

A spec is data alone and loads no torch. Names are `family-output`; one pass of a family's network gives all of its
outputs, so that several features of one family cost one forward pass.
"""

import difflib
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abaw import __version__
from abaw.errors import UsageError
from abaw.extract.spec import BackboneSpec, ImageInput  # noqa: F401  both are of this seam

if TYPE_CHECKING:
    import torch

    from abaw.extract.audio.encoder import AudioEncoder
    from abaw.extract.vision.views import Mask

UNTRAINED = "untrained"  # the weights of a network that was asked for with --untrained


@dataclass(frozen=True)
class Built:
    """A network with its weights, and what there is to tell about them.

    Attributes:
        network: gives a dict of outputs by their name.
        specs: as they are with these weights; None where they are the ones asked for.
        notes: one sentence for each thing done to the weights to make them fit.
        weights_sha256: of weights that are not in a file of the user's.
    """

    network: "torch.nn.Module"
    specs: Sequence[BackboneSpec] | None = None
    notes: tuple[str, ...] = ()
    weights_sha256: str | None = None


# A builder gets the specs that are wanted of its family and the weights file (None: the default ones), and gives the
# network with its weights loaded, bare or with what there is to tell. It imports torch itself.
Builder = Callable[[Sequence[BackboneSpec], Path | None], "torch.nn.Module | Built"]
# Where checkpoints of one family differ in form: the specs as a state dict wants them, and the state dict with its
# keys as the network calls them.
Fit = Callable[
    [Sequence[BackboneSpec], "dict[str, torch.Tensor]"], tuple[Sequence[BackboneSpec], "dict[str, torch.Tensor]"]
]


@dataclass(frozen=True)
class Family:
    """Backbones that share a network: their specs by name, the builder, and how checkpoints of other forms fit."""

    specs: dict[str, BackboneSpec]
    build: Builder
    fit: Fit | None = None


_FAMILIES: dict[str, Family] = {}


def register(*specs: BackboneSpec, fit: Fit | None = None) -> Callable[[Builder], Builder]:
    """Decorator of a builder: makes the specs of its family known by name."""

    def add(build: Builder) -> Builder:
        assert len({spec.family for spec in specs}) == 1, "one builder serves one family"
        _FAMILIES[specs[0].family] = Family({spec.name: spec for spec in specs}, build, fit)
        return build

    return add


def list_families() -> list[Family]:
    """All registered families."""
    _load_catalog()
    return list(_FAMILIES.values())


def list_specs() -> list[BackboneSpec]:
    """Specs of all registered backbones; `timm/<model>` names come on top of these."""
    return [spec for family in list_families() for spec in family.specs.values()]


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
    from abaw.extract.audio.catalog import spec_with_options

    spec = spec_with_options(name)
    if spec is not None:
        return spec, _FAMILIES[spec.family].build
    for family in _FAMILIES.values():
        if name in family.specs:
            return family.specs[name], family.build
    known = [spec.name for spec in list_specs()]
    near = difflib.get_close_matches(name, known, n=3)
    hint = f"Did you mean {' or '.join(near)}?" if near else f"Known are: {', '.join(known)}, timm/<any timm model>."
    raise UsageError(f"Unknown backbone {name!r}. {hint} `abaw list backbones` shows them all.")


def _load_catalog() -> None:
    import abaw.extract.vision.catalog  # noqa: I001  registers the specs
    import abaw.extract.vision.catalog_faces
    import abaw.extract.audio.catalog  # noqa: F401


class Backbone:
    """One network, ready on a device: uint8 images or a float waveform in, features out.

    Attributes:
        specs: the outputs that are wanted, all of one family.
        weights_sha256: of the weights file; None for a backbone without weights.
        precision: "float32" or "bfloat16".
        notes: one sentence for each thing that was done to the weights to make them fit.
    """

    def __init__(
        self,
        specs: Sequence[BackboneSpec],
        network: "torch.nn.Module",
        weights_sha256: str | None,
        device: "torch.device",
        precision: str,
        notes: tuple[str, ...] = (),
    ) -> None:
        import torch

        self.specs = tuple(specs)
        self.weights_sha256 = weights_sha256
        self.device = device
        self.precision = precision
        self.notes = notes
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

    @property
    def encoder(self) -> "AudioEncoder":
        """The network of an audio backbone, which takes sounds of any length."""
        from abaw.extract.audio.encoder import AudioEncoder

        assert isinstance(self._network, AudioEncoder), "images go through preprocess"
        return self._network

    def preprocess(self, images: "torch.Tensor") -> "torch.Tensor":
        """Model input from (n, height, width, 3) uint8 RGB images on any device: (n, 3, size, size), normalised.

        Of sound: from a short waveform, (samples,) float32, 16 kHz, mono.
        """
        from abaw.extract.vision.preprocess import prepare_images

        if self.spec.image is None:
            return self.encoder.prepare(images)
        return prepare_images(images.to(self.device, non_blocking=True), self.spec.image, self._dtype)

    def __call__(
        self, inputs: "torch.Tensor", view: str = "", keys: Sequence[tuple[str, int]] | None = None
    ) -> "torch.Tensor | dict[str, torch.Tensor]":
        """Features from model input: (n, *shape) float, or a dict of them by backbone name where several are wanted.

        Args:
            inputs: what `preprocess` gave; of `hflip`, `apply_view` has mirrored the images before.
            view: name of the view.
            keys: video and frame number of each row; needed for a masked view, whose choice depends on them.

        Raises:
            UsageError: no such view, or a masked view of a network that is not made of patches.
        """
        import torch

        from abaw.extract.vision.views import parse_mask

        mask = parse_mask(view)
        with torch.inference_mode():
            if mask is None:
                outputs = self._network(inputs)
            else:
                outputs = self._network(inputs, kept=self._kept_patches(mask, keys, len(inputs)))
        if len(self.specs) == 1:
            return outputs[self.spec.output]
        return {spec.name: outputs[spec.output] for spec in self.specs}

    def _kept_patches(self, mask: "Mask", keys: Sequence[tuple[str, int]] | None, n_rows: int) -> "torch.Tensor":
        """Patches that each row keeps, (n, kept) int64 on the device."""
        import torch

        from abaw.extract.vision.views import kept_patches

        n_patches = getattr(self._network, "n_patches", None)
        if n_patches is None:
            raise UsageError(
                f"Backbone {self.spec.name} has no patches to mask. Take mae-mean or mae-cls for {mask.view}."
            )
        if keys is None or len(keys) != n_rows:
            found = "none" if keys is None else len(keys)
            raise UsageError(f"View {mask.view} of {n_rows} rows needs the video and frame of each; it got {found}.")
        return torch.from_numpy(kept_patches(mask, keys, n_patches)).to(self.device, non_blocking=True)


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
    file = None
    if specs[0].weights == "none":
        if weights is not None:
            raise UsageError(f"Backbone {names[0]} has no weights. Leave out {weights}.")
    elif untrained:
        specs = [replace(spec, weights=UNTRAINED) for spec in specs]
        torch.manual_seed(0)
    else:
        file = Path(weights) if weights is not None else _weights_folder(specs[0]) or default_weights(specs[0])
    built = build(specs, file)
    if not isinstance(built, Built):
        built = Built(built)
    specs = list(built.specs or specs)
    if file is None:
        return Backbone(specs, built.network, built.weights_sha256, torch.device(device), precision, built.notes)
    specs = [replace(spec, weights="file") for spec in specs]
    sha256 = built.weights_sha256 or file_sha256(file)
    return Backbone(specs, built.network, sha256, torch.device(device), precision, built.notes)


def _weights_folder(spec: BackboneSpec) -> Path | None:
    """The folder of Hugging Face's under $ABAW_WEIGHTS that has an audio family's name, such as `wav2vec2/`."""
    folder = Path(os.environ.get("ABAW_WEIGHTS", "")) / spec.family
    return folder if spec.modality == "audio" and (folder / "config.json").is_file() else None


def describe(backbone: Backbone, spec: BackboneSpec, view: str) -> dict[str, Any]:
    """What the store keeps of a feature's making: the arguments of `FeatureStore.add_feature`."""
    return {
        "spec": {**asdict(spec), "view": view, "abaw": __version__},
        "weights_sha256": backbone.weights_sha256,
        "fingerprint": backbone.fingerprint(spec, view),
    }
