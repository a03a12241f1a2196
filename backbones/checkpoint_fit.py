"""Layouts of checkpoints, key -> shape: what a network expects, and how a state dict of another form is made to fit."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import isqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from abaw.backbones.averaged_weights import averaging
from abaw.backbones.checkpoints import COUNTERS, Checkpoint, Layout, Location, describe_locations
from abaw.backbones.registry import Builder, Built, Family, Fit, list_families
from abaw.backbones.spec import UNTRAINED, BackboneSpec
from abaw.core.errors import some_of
from abaw.core.state_dicts import SHOWN_KEYS, find_problems

# First words of keys that belong to what was trained on top of a backbone, or to MAE's decoder.
HEADS = ("head", "heads", "head_dist", "fc", "classifier", "cls_head", "last_linear", "logits", "mask_token")
DECODER = "decoder_"
# Last words of keys of tensors that are no weights: they follow from the form of the network, or count something.
NO_WEIGHTS = ("total_ops", "total_params", "num_batches_tracked", "n_averaged", "num_updates", "position_ids",
              "relative_position_index", "relative_coords_table", "attn_mask", "inv_freq", "queue", "queue_ptr")  # fmt: skip
LIKE = 0.5  # share of keys that a layout must have in common with another to be named in an error


@dataclass(frozen=True)
class Fitted:
    """A state dict in the layout of a network, the specs of that network, and a sentence for each change.

    Attributes:
        location: where in the checkpoint it was.
        copy: which of several copies of the network it is; None if there is only one.
    """

    specs: tuple[BackboneSpec, ...]
    state: dict[str, Tensor]
    notes: tuple[str, ...]
    location: Location
    copy: str | None = None


@dataclass(frozen=True)
class Match:
    """How well a state dict fits a family: entirely, or by the share of all keys that agree; and where in it."""

    names: tuple[str, ...]
    fits: bool
    similarity: float
    location: Location

    def is_part_of(self, other: "Match") -> bool:
        """True if the other one fits, too, and includes the keys of this one."""
        inside = (
            self.location.prefix.startswith(other.location.prefix) and self.location.prefix != other.location.prefix
        )
        return other.fits and inside and other.location.n_keys > self.location.n_keys


def checkpoint_network(built: "nn.Module | Built") -> nn.Module:
    """The network whose keys checkpoints have: a wrapper keeps it as `model`."""
    network = built.network if isinstance(built, Built) else built
    return getattr(network, "model", network)


@lru_cache
def layout(build: Builder, specs: tuple[BackboneSpec, ...]) -> Layout:
    """Keys and shapes of the network of some specs, made on the meta device, where nothing is computed or held."""
    with torch.device("meta"):
        network = checkpoint_network(build([replace(spec, weights=UNTRAINED) for spec in specs], None))
    return {key: value.shape for key, value in network.state_dict().items()}


def fit_state(
    state: Mapping[str, Tensor] | Checkpoint,
    build: Builder,
    specs: Sequence[BackboneSpec],
    fit: Fit | None,
    file_name: str,
) -> Fitted:
    """The state dict of a network in a checkpoint, without prefixes, heads and tensors that are no weights.

    Position embeddings are resized. Other differences from the network's layout stay.
    """
    specs, checkpoint = tuple(specs), Checkpoint.of(state)
    expected = layout(build, specs)
    locations = checkpoint.locations(expected)
    inside, dropped = checkpoint.take(locations[0], expected)
    inside, copies = _drop_copies(inside, locations)
    if fit is not None:
        specs, inside = fit(specs, inside)
    expected = layout(build, tuple(specs))
    extra = [
        key
        for key, value in inside.items()
        if key not in expected
        and _is_extra(key, value)
        and not (
            key.endswith(COUNTERS) and _has_layer(key, inside) and not _has_layer(key, expected)
        )  # a counter without a layer says that the layer is missing
    ]
    inside = {key: value for key, value in inside.items() if key not in extra}
    dropped = dropped + copies + extra
    notes = [describe_locations(locations, checkpoint.choice, file_name.removesuffix(f"#{checkpoint.choice}"))]
    notes += [f"Dropped {some_of(dropped, SHOWN_KEYS)} of {file_name}."] if dropped else []
    for key, value in inside.items():
        if key.endswith("pos_embed") and key in expected and value.shape != expected[key]:
            inside[key], note = _resize_positions(value, expected[key])
            notes += [f"{note} ({key} of {file_name})."] if note else []
    for key, shape in expected.items():
        if key.endswith(COUNTERS) and _has_layer(key, inside):
            inside.setdefault(key, torch.zeros(shape, dtype=torch.int64))
    is_choice = len(locations) > 1 or bool(checkpoint.choice)
    copy = locations[0].name if is_choice else None
    return Fitted(tuple(specs), inside, tuple(filter(None, notes)), locations[0], copy)


def _has_layer(counter: str, keys: Container[str]) -> bool:
    """Whether the layer that a counter of batches belongs to is present."""
    return counter.replace(COUNTERS, "running_mean") in keys


def _drop_copies(inside: Mapping[str, Tensor], locations: Sequence[Location]) -> tuple[dict[str, Tensor], list[str]]:
    """A state dict without the copies of itself under other keys, and the keys of these."""
    first, *others = locations
    within = tuple(other.prefix.removeprefix(first.prefix) for other in others if other.prefix.startswith(first.prefix))
    within = tuple(filter(None, within))
    copies = [key for key in inside if within and key.startswith(within)]
    return {key: value for key, value in inside.items() if key not in set(copies)}, copies


def _is_extra(key: str, value: Tensor) -> bool:
    """True for heads, and for tensors that are no weights: counters, indices, state of an optimizer."""
    return (
        _is_head(key)
        or key.split(".")[-1] in NO_WEIGHTS
        or not (value.is_floating_point() or value.is_complex())
        or ("." not in key and value.numel() == 1)
        or averaging(key.split(".")[:1]) < 0
    )


def _is_head(key: str) -> bool:
    return key.split(".")[0] in HEADS or key.startswith(DECODER)


def _resize_positions(embeddings: Tensor, expected: torch.Size) -> tuple[Tensor, str]:
    """Position embeddings for another number of patches, and a note; unchanged, and "", if that is impossible.

    Bicubic without antialiasing, as in MAE's `interpolate_pos_embed`.

    Args:
        embeddings: (1, tokens, width), that of the class token, if any, first.
        expected: the shape that the network has.
    """
    if embeddings.ndim != 3 or len(expected) != 3 or embeddings.shape[2] != expected[2]:
        return embeddings, ""
    side = isqrt(expected[1])
    n_first = expected[1] - side**2
    n_patches = embeddings.shape[1] - n_first
    side_before = isqrt(max(n_patches, 0))
    if side_before == 0 or side_before**2 != n_patches:
        return embeddings, ""
    first, patches = embeddings[:, :n_first].float(), embeddings[:, n_first:].float()
    grid = patches.transpose(1, 2).unflatten(2, (side_before, side_before))
    grid = F.interpolate(grid, (side, side), mode="bicubic", align_corners=False)
    note = f"Position embeddings of {side_before}x{side_before} patches were interpolated to {side}x{side}"
    return torch.cat([first, grid.flatten(2).transpose(1, 2)], dim=1), note


def find_matches(state: Mapping[str, Tensor] | Checkpoint, among: Container[str] | None = None) -> list[Match]:
    """Registered families with weights, first those that the state dict fits, then by similarity.

    A network that is part of another one that fits, such as the DAN of EMMA, counts as not fitting.

    Args:
        among: names of families; None for all.
    """
    checkpoint = Checkpoint.of(state)
    families = [family for family in list_families() if family.has_weights and (among is None or family.name in among)]
    matches = [match for family in families if (match := _match(checkpoint, family))]
    matches = [
        replace(candidate, fits=candidate.fits and not any(map(candidate.is_part_of, matches))) for candidate in matches
    ]
    return sorted(matches, key=lambda match: (match.fits, match.similarity), reverse=True)


def _match(state: Checkpoint, family: Family) -> Match | None:
    """How well a family fits; None if the builder of a plug-in fails."""
    try:
        fitted = fit_state(state, family.build, family.specs, family.fit, "")
        expected = layout(family.build, fitted.specs)
    except Exception:
        if family.source:
            return None
        raise
    n_equal = sum(key in fitted.state and fitted.state[key].shape == shape for key, shape in expected.items())
    n_keys = len(expected.keys() | fitted.state.keys())
    names = tuple(spec.name for spec in fitted.specs)  # of the outputs that this file has
    return Match(names, not find_problems(fitted.state, expected), n_equal / max(n_keys, 1), fitted.location)


def describe_likeness(state: Mapping[str, Tensor], name: str) -> str:
    """A sentence for errors: the backbones that a state dict which does not fit `name` looks like."""
    best = find_matches(state)[0]
    if best.similarity < LIKE:
        return "It looks like no known backbone."
    if name in best.names:
        return f"It looks like weights of {name} that are incomplete or changed."
    return f"It looks like weights of {' or '.join(best.names[:2])}."
