"""Backbones by name: as a network that can be trained, or frozen on a device to compute features."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from abaw import __version__
from abaw.backbones.extractor import Backbone
from abaw.backbones.lineage import KEPT, read_lineage, with_input
from abaw.backbones.registry import Built, find_backbone, get_spec
from abaw.backbones.spec import UNTRAINED, BackboneSpec
from abaw.core.errors import UsageError
from abaw.core.records import FLOAT32, GIVEN, fingerprint_of


def build_network(
    specs: Sequence[BackboneSpec], weights: Path | str | None = None, *, untrained: bool = False
) -> Built:
    """Build the network of some specs: an ordinary module on the CPU in float32 that can be trained.

    Args:
        specs: outputs of one network.
        weights: a checkpoint file; None takes the default weights.
        untrained: random weights (seed 0) instead of trained ones; recorded in the specs.

    Returns:
        The network in training mode, all of its specs, and what was done to the weights.

    Raises:
        UsageError: specs of several networks, or both weights and untrained.
        CheckpointError: the weights are missing or do not fit.
    """
    from abaw.backbones.weights import default_weights, file_sha256
    from abaw.core.devices import own_random_state

    first, file = specs[0], None
    lineage: dict[str, Any] = {}
    family = find_backbone(first.name)[1]
    if len({(spec.family, spec.image, spec.options) for spec in specs}) > 1:
        names = ", ".join(spec.name for spec in specs)
        raise UsageError(f"{names} are not outputs of one network. Create one backbone for each.")
    if untrained and weights is not None:
        raise UsageError(f"{first.name} was given a weights file and --untrained. Choose one.")
    if first.weights == "none":
        if weights is not None:
            raise UsageError(f"Backbone {first.name} has no weights. Leave out {weights}.")
    elif untrained:
        specs = [replace(spec, weights=UNTRAINED) for spec in specs]
    else:
        file = Path(weights) if weights is not None else default_weights(first)
    with own_random_state(seed=0):
        built = family.build(specs, file)
    if not isinstance(built, Built):
        built = Built(built)
    if not callable(getattr(built.network, "train", None)):
        raise UsageError(
            f"The builder of {first.name} gave a {type(built.network).__name__}, not a torch.nn.Module. Correct it."
        )
    specs, sha256 = tuple(built.specs or specs), built.weights_sha256
    if file is not None:
        lineage = read_lineage(file)
        specs = tuple(with_input(replace(spec, weights="file"), lineage) for spec in specs)
        sha256 = sha256 or file_sha256(file)
    return Built(built.network.train(), specs, built.notes, sha256, family.source, lineage)


def create_backbone(
    names: str | Sequence[str],
    weights: Path | str | None = None,
    device: str = "cpu",
    *,
    precision: str = FLOAT32,
    untrained: bool = False,
    compiled: bool = False,
) -> Backbone:
    """Build a backbone by name, or several outputs of one family by their names, frozen to compute features.

    Args:
        names: `vit-mean`, or `("vit-mean", "vit-cls")`: one network, one pass.
        weights: a checkpoint file; None takes the default weights.
        device: a torch device.
        precision: "float32" or "bfloat16".
        untrained: random weights (seed 0) instead of trained ones; recorded in the spec.
        compiled: compile the network, see `Backbone`.

    Raises:
        UsageError: an unknown name, names of several networks, or both weights and untrained.
        CheckpointError: the weights are missing or do not fit.
    """
    names = (names,) if isinstance(names, str) else tuple(names)
    built = build_network([get_spec(name) for name in names], weights, untrained=untrained)
    return Backbone(built, device, precision, compiled)


def describe(
    backbone: Backbone, spec: BackboneSpec, view: str, alignment: str | None = GIVEN, decoder: str = ""
) -> dict[str, Any]:
    """How a feature was made, for the store: the arguments of `FeatureStore.add_feature`.

    Args:
        decoder: of the pictures, as in its record; empty for that of the processor.
    """
    record = backbone.record(spec, view, alignment or GIVEN) | ({"decoder": decoder} if decoder else {})
    source = {"source": backbone.source} if backbone.source else {}  # of a plug-in
    trained_on = {key: backbone.lineage[key] for key in KEPT if key in backbone.lineage}
    lineage = {"trained_on": trained_on} if trained_on else {}
    return {
        "spec": {**asdict(spec), "view": view, "abaw": __version__, **source, **lineage},
        "weights_sha256": backbone.weights_sha256,
        "fingerprint": fingerprint_of(record),
        "record": record,
    }
