"""What a backbone is: its network (callable) behind its spec (data), and the registry of names.

A spec is data alone and loads no torch. Names are `family-output`; one pass of a family's network gives all of its
outputs, so that several features of one family cost one forward pass.
"""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abaw import __version__
from abaw.backbones.extractor import Backbone
from abaw.backbones.spec import UNTRAINED, BackboneSpec, ImageInput  # noqa: F401  all are of this seam
from abaw.core.errors import UsageError
from abaw.core.records import FLOAT32, GIVEN, fingerprint_of

if TYPE_CHECKING:
    import torch


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
_VARIANTS: dict[str, BackboneSpec] = {}


def register(*specs: BackboneSpec, fit: Fit | None = None) -> Callable[[Builder], Builder]:
    """Decorator of a builder: makes the specs of its family known by name.

    Raises:
        UsageError: a name is taken, or the specs are of several families.
    """

    def add(build: Builder) -> Builder:
        _check_free(specs)
        _FAMILIES[specs[0].family] = Family({spec.name: spec for spec in specs}, build, fit)
        return build

    return add


def register_variant(spec: BackboneSpec) -> None:
    """Make another name of a family known, whose network sees its input otherwise: it wants a pass of its own.

    Raises:
        UsageError: the name is taken, or there is no such family.
    """
    if spec.family not in _FAMILIES:
        raise UsageError(f"{spec.name!r} wants family {spec.family!r}, which is not registered. Register it first.")
    _check_names([spec])
    _VARIANTS[spec.name] = spec


def list_variants() -> list[BackboneSpec]:
    """Specs of the further names, see `register_variant`."""
    _load_catalog()
    return list(_VARIANTS.values())


def _check_free(specs: Sequence[BackboneSpec]) -> None:
    families = sorted({spec.family for spec in specs})
    if len(families) != 1:
        raise UsageError(f"A builder serves one family; these specs are of {', '.join(families) or 'none'}.")
    if families[0] in _FAMILIES:
        theirs, mine = (", ".join(names) for names in (_FAMILIES[families[0]].specs, (spec.name for spec in specs)))
        raise UsageError(
            f"Family {families[0]!r} is registered already, with {theirs}; it cannot be registered again with {mine}. "
            "Choose another name."
        )
    _check_names(specs)


def _check_names(specs: Sequence[BackboneSpec]) -> None:
    owners = {name: family for family, known in _FAMILIES.items() for name in known.specs}
    owners |= {name: known.family for name, known in _VARIANTS.items()}
    for spec in specs:
        if spec.name in owners or spec.name.startswith("timm/"):
            owner = owners.get(spec.name, "timm")
            raise UsageError(
                f"Backbone name {spec.name!r} of family {spec.family!r} is taken by family {owner!r}. Choose another name."
            )
        owners[spec.name] = spec.family


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
    return find_backbone(name)[0]


def find_backbone(name: str) -> tuple[BackboneSpec, Builder]:
    """The spec of a backbone name, and the builder of its network; see `get_spec`."""
    _load_catalog()
    if name.startswith("timm/"):
        from abaw.backbones.vision.timm_models import build_timm, timm_spec

        return timm_spec(name), build_timm
    from abaw.backbones.audio.catalog import spec_with_options

    spec = _VARIANTS.get(name) or spec_with_options(name)
    if spec is None and ("@" in name or "+" in name):  # another size or crop, which networks of timm take
        from abaw.backbones.vision.timm_models import sized_spec

        spec = sized_spec(name)
    if spec is not None:
        return spec, _FAMILIES[spec.family].build
    for family in _FAMILIES.values():
        if name in family.specs:
            return family.specs[name], family.build
    known = [spec.name for spec in (*list_specs(), *list_variants())]
    near = difflib.get_close_matches(name, known, n=3)
    hint = f"Did you mean {' or '.join(near)}?" if near else f"Known are: {', '.join(known)}, timm/<any timm model>."
    raise UsageError(f"Unknown backbone {name!r}. {hint} `abaw list backbones` shows them all.")


def _load_catalog() -> None:
    import abaw.backbones.vision.catalog  # noqa: I001  registers the specs
    import abaw.backbones.vision.catalog_dino
    import abaw.backbones.vision.catalog_faces
    import abaw.backbones.vision.catalog_hsemotion
    import abaw.backbones.audio.catalog  # noqa: F401


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
    names = (names,) if isinstance(names, str) else tuple(names)
    found = [find_backbone(name) for name in names]
    specs, build = [spec for spec, _ in found], found[0][1]
    if len({(spec.family, spec.image, spec.options) for spec in specs}) > 1:
        raise UsageError(f"{', '.join(names)} are not outputs of one network. Create one backbone for each.")
    return build_backbone(specs, build, weights, device, precision=precision, untrained=untrained)


def build_backbone(
    specs: Sequence[BackboneSpec],
    build: Builder,
    weights: Path | str | None = None,
    device: str = "cpu",
    *,
    precision: str = FLOAT32,
    untrained: bool = False,
) -> Backbone:
    """Build the network of some specs of one family; the arguments are those of `create_backbone`.

    Raises:
        UsageError, CheckpointError: as there.
    """
    import torch

    from abaw.backbones.weights import default_weights, file_sha256
    from abaw.core.devices import own_random_state

    name, file = specs[0].name, None
    if untrained and weights is not None:
        raise UsageError(f"{name} was given a weights file and --untrained. Choose one.")
    if specs[0].weights == "none":
        if weights is not None:
            raise UsageError(f"Backbone {name} has no weights. Leave out {weights}.")
    elif untrained:
        specs = [replace(spec, weights=UNTRAINED) for spec in specs]
    else:
        file = Path(weights) if weights is not None else _weights_folder(specs[0]) or default_weights(specs[0])
    with own_random_state(seed=0):
        built = build(specs, file)
    if not isinstance(built, Built):
        built = Built(built)
    specs, sha256 = list(built.specs or specs), built.weights_sha256
    if file is not None:
        specs = [replace(spec, weights="file") for spec in specs]
        sha256 = sha256 or file_sha256(file)
    return Backbone(specs, built.network, sha256, torch.device(device), precision, built.notes)


def _weights_folder(spec: BackboneSpec) -> Path | None:
    """The folder of Hugging Face's in the weights folder that has an audio family's name, such as `wav2vec2/`."""
    from abaw.backbones.weights import weights_folder

    folder = weights_folder() / spec.family
    return folder if spec.modality == "audio" and (folder / "config.json").is_file() else None


def describe(backbone: Backbone, spec: BackboneSpec, view: str, alignment: str | None = GIVEN) -> dict[str, Any]:
    """What the store keeps of a feature's making: the arguments of `FeatureStore.add_feature`."""
    record = backbone.record(spec, view, alignment or GIVEN)
    return {
        "spec": {**asdict(spec), "view": view, "abaw": __version__},
        "weights_sha256": backbone.weights_sha256,
        "fingerprint": fingerprint_of(record),
        "record": record,
    }
