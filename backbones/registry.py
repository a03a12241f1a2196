"""The registry of backbones: families of specs, and how their networks are built. Loads no torch.

To add a backbone, write a `Family` and list the tuple that it is in under the group `abaw.backbones` of entry points;
abaw lists its own families there, and other distributions list theirs:

    [options.entry_points]
    abaw.backbones =
        gaze = abaw_gaze:FAMILIES

    # abaw_gaze.py
    def build(specs, file):
        from abaw_gaze.network import Gaze            # loads torch
        return Gaze() if file is None else load_network(build, specs, file)

    GAZE = BackboneSpec("gaze", "gaze", "angles", "vision", (2,), "Gaze of ...", "file", ImageInput(224))
    FAMILIES = (Family("gaze", (GAZE,), build),)

A builder gets the specs that are wanted and a weights file; None is for the weights that the specs name. It gives the
network, or a `Built` where there is more to say, and raises a CheckpointError if the weights are missing or do not fit.
It is also called with `weights="untrained"` in the specs, for random weights, on the meta device too, to learn the keys
and shapes of the network. It imports torch itself, so that specs can be listed without it.

A network is an ordinary `nn.Module`. Its `forward` takes a batch that is prepared as the spec says, and gives a dict of
features by output. One with patches that can be masked has `n_patches` and takes `kept`, (n, k) int64 indices of
patches. One that computes in float32 only has `float32_only = True`. Networks of sound are `AudioEncoder`s,
those of transcripts `TranscriptEncoder`s.

For a quick try without a distribution, `--backbone MODULE:CLASS` takes a class of an ordinary module that is made without
arguments and loads its own weights. `CLASS.shape` is the shape of the feature of a frame, which `forward` gives for a
batch of pictures, and `CLASS.image` an `ImageInput`; by default pictures of 224 x 224 with ImageNet's statistics.

Names are `family-output`. One pass of a family's network gives all of its outputs, so that several features of one
family cost one forward pass.
"""

import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any

from abaw.backbones.spec import BackboneSpec, ImageInput
from abaw.core.errors import UsageError, did_you_mean, first_line
from abaw.core.plugins import load_group, load_object

if TYPE_CHECKING:
    import torch

GROUP = "abaw.backbones"


@dataclass(frozen=True)
class Built:
    """A network with its weights loaded.

    Attributes:
        network: an ordinary module that can be trained.
        specs: as they are with these weights; empty where they are the ones that were asked for.
        notes: one sentence for each change that made the weights fit.
        weights_sha256: of the weights; None for that of the file that was passed, and where there are no weights.
        source: of the family, see `Family`.
        lineage: what the weights file says about its training, see `abaw.backbones.lineage`.
    """

    network: "torch.nn.Module"
    specs: Sequence[BackboneSpec] = ()
    notes: tuple[str, ...] = ()
    weights_sha256: str | None = None
    source: str = ""
    lineage: Mapping[str, Any] = field(default_factory=dict)


# Builds the network of some specs of a family; see the head of this module.
Builder = Callable[[Sequence[BackboneSpec], Path | None], "torch.nn.Module | Built"]
# Where checkpoints of a family differ in form: takes specs and a state dict, gives the specs that the state dict has
# and the state dict with the keys of the network.
Fit = Callable[
    [Sequence[BackboneSpec], "dict[str, torch.Tensor]"], tuple[Sequence[BackboneSpec], "dict[str, torch.Tensor]"]
]


def _resolve_nothing(name: str) -> BackboneSpec | None:
    return None


@dataclass(frozen=True)
class Family:
    """Backbones that share one network.

    Attributes:
        name: of the family; its specs have it as `family`.
        specs: the outputs of the network, which all have the same input.
        build: makes the network.
        fit: brings checkpoints of other forms into the network's.
        variants: further specs, whose input differs, so that they need a pass of their own.
        resolve: gives the spec of a name with options, such as `vggish-0.96s`, and None for names that are not in the
            family's syntax. The spec may be of another registered family.
        syntax: such names for users, such as "timm/<any timm model>"; empty where they are not worth a mention.
        source: distribution and version that the family comes from; empty for abaw's own.
    """

    name: str
    specs: tuple[BackboneSpec, ...]
    build: Builder
    fit: Fit | None = None
    variants: tuple[BackboneSpec, ...] = ()
    resolve: Callable[[str], BackboneSpec | None] = _resolve_nothing
    syntax: str = ""
    source: str = ""

    @property
    def has_weights(self) -> bool:
        """True if its network has weights that a checkpoint could hold."""
        return any(spec.weights != "none" for spec in self.specs)


_FAMILIES: dict[str, Family] = {}
_lock = RLock()
_loaded: set[str] = set()  # groups of plug-ins


def register(family: Family) -> None:
    """Make a family known to this process alone; workers of a cluster know those of entry points.

    Raises:
        UsageError: the name of the family or of a spec is taken, or its specs are of another family.
    """
    _families()
    _add(family)


def list_families() -> list[Family]:
    """All registered families."""
    return list(_families().values())


def list_specs() -> list[BackboneSpec]:
    """Specs of all registered names, variants last; names that a family resolves come on top of these."""
    families = list_families()
    return [spec for family in families for spec in family.specs] + [
        spec for family in families for spec in family.variants
    ]


def get_spec(name: str) -> BackboneSpec:
    """The spec of a backbone name.

    Raises:
        UsageError: no backbone has this name; the message lists similar names.
    """
    return find_backbone(name)[0]


def is_known(name: str) -> bool:
    """True if a registered backbone has this name, or a family says what is wrong with it."""
    try:
        return _find_registered(name) is not None
    except UsageError:
        return True


def find_backbone(name: str) -> tuple[BackboneSpec, Family]:
    """The spec of a backbone name, and the family that builds its network.

    Raises:
        UsageError: no backbone has this name, or its options are invalid.
    """
    if registered := _find_registered(name):
        return registered
    if ":" in name:
        return _family_of_class(name)
    families = list_families()
    known = [spec.name for spec in list_specs()]
    syntaxes = [family.syntax for family in families if family.syntax]
    hint = did_you_mean(name, known) or f"Known are: {', '.join([*known, *syntaxes])}. "
    raise UsageError(f"Unknown backbone {name!r}. {hint}`abaw list backbones` shows them all.")


def _find_registered(name: str) -> tuple[BackboneSpec, Family] | None:
    families = _families()
    for family in families.values():
        for spec in (*family.specs, *family.variants):
            if spec.name == name:
                return spec, family
    refusal: UsageError | None = None
    for family in families.values():
        try:
            resolved = family.resolve(name)
        except UsageError as error:
            refusal = refusal or error
            continue
        if resolved is not None:
            return resolved, families.get(resolved.family, family)
    if refusal is not None:
        raise refusal
    return None


def _family_of_class(name: str) -> tuple[BackboneSpec, Family]:
    """The family of a class that is not registered, `module:Class`; see the head of this module."""
    network_class = load_object(name)
    try:
        shape = tuple(int(size) for size in network_class.shape)
        code = Path(inspect.getfile(network_class)).read_bytes()
    except (AttributeError, TypeError, ValueError, OSError) as error:
        raise UsageError(
            f"{name} is not the class of a network with a shape ({first_line(error).rstrip('.')}). Give it the shape of "
            "the feature of a frame, such as `shape = (512,)`."
        ) from error
    image = getattr(network_class, "image", ImageInput(224))
    spec = BackboneSpec(name, name, "output", "vision", shape, f"the class {name}", "none", image)
    spec = spec.with_options(code=hashlib.sha256(code).hexdigest())  # edited code makes other features
    return spec, Family(name, (spec,), partial(_build_class, network_class), source=f"module {name.partition(':')[0]}")


def check_outputs(specs: Sequence[BackboneSpec], outputs: object, n_frames: int) -> None:
    """Raise a UsageError if a network of a plug-in gives other features than its specs say."""
    import torch

    for spec in specs:
        names = [str(name) for name in outputs] if isinstance(outputs, Mapping) else [f"a {type(outputs).__name__}"]
        features = outputs.get(spec.output) if isinstance(outputs, Mapping) else None
        if not isinstance(features, torch.Tensor):
            raise UsageError(
                f"{spec.name} needs a tensor called {spec.output!r} in the dict that forward gives, and it gave "
                f"{', '.join(names)}. Correct the output of its spec, or what forward gives."
            )
        if tuple(features.shape) != (n_frames, *spec.shape):
            raise UsageError(
                f"{spec.name} says that the shape of a frame is {spec.shape}, and {n_frames} frames gave "
                f"{tuple(features.shape)}. Correct its shape, or what forward gives."
            )


def _build_class(network_class: Any, specs: Sequence[BackboneSpec], file: Path | None) -> Built:
    import torch

    class OneOutput(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network_class()

        def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"output": self.network(images)}

    try:
        network = OneOutput()
    except Exception as error:  # foreign code
        raise UsageError(
            f"{specs[0].name} cannot be made by {specs[0].name.partition(':')[2]}() ({type(error).__name__}: "
            f"{first_line(error).rstrip('.')}). Give every argument a default."
        ) from error
    digest = hashlib.sha256()
    for key, value in sorted(network.state_dict().items()):
        digest.update(key.encode() + value.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return Built(network, weights_sha256=digest.hexdigest() if network.state_dict() else None)


def _families() -> dict[str, Family]:
    """All registered families by name, those of plug-ins included."""
    with _lock:
        if GROUP not in _loaded:
            _loaded.add(GROUP)
            for plugin in load_group(GROUP, object):
                for family in plugin.value if isinstance(plugin.value, tuple) else (plugin.value,):
                    try:
                        if not isinstance(family, Family):
                            raise TypeError(f"it holds a {type(family).__name__}, not a Family")
                        _add(replace(family, source="" if plugin.built_in else plugin.source))
                    except (TypeError, UsageError) as error:
                        plugin.reject(error)
    return _FAMILIES


def _add(family: Family) -> None:
    specs = (*family.specs, *family.variants)
    others = sorted({spec.family for spec in specs} - {family.name})
    if others:
        raise UsageError(f"Family {family.name!r} has specs of {', '.join(others)}. Give all of them its name.")
    owner_of = _FAMILIES.get(family.name)
    if owner_of is not None:
        raise UsageError(f"Family {family.name!r} is taken by {_distribution(owner_of)}. Choose another name.")
    names: set[str] = set()
    for spec in specs:
        owner = family if spec.name in names else _owner(spec.name)
        if owner is not None:
            raise UsageError(
                f"Backbone name {spec.name!r} of family {family.name!r} is taken by family {owner.name!r} of "
                f"{_distribution(owner)}. Choose another name."
            )
        names.add(spec.name)
    _FAMILIES[family.name] = family


def _owner(name: str) -> Family | None:
    """The family that a name, or its syntax, belongs to."""
    for family in _FAMILIES.values():
        try:
            if any(spec.name == name for spec in (*family.specs, *family.variants)) or family.resolve(name):
                return family
        except UsageError:  # the syntax is the family's, although the name is wrong
            return family
    return None


def _distribution(family: Family) -> str:
    return family.source or "abaw"
