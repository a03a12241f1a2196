"""Layouts of checkpoints, key -> shape: what a network wants, and how a state dict of another form is brought to it."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import isqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from abaw.backbones.averages import averaging
from abaw.backbones.checkpoints import COUNTERS, Checkpoint, Layout, Place, describe_places
from abaw.backbones.registry import Builder, Built, Family, Fit, list_families
from abaw.backbones.spec import UNTRAINED, BackboneSpec
from abaw.core.errors import some_of
from abaw.core.state_dicts import SHOWN_KEYS, find_problems

# First words of keys that belong to what was trained on top of a backbone, or to MAE's decoder.
HEADS = ("head", "heads", "head_dist", "fc", "classifier", "cls_head", "last_linear", "logits", "mask_token")
DECODER = "decoder_"
# Last words of keys of tensors that follow from the network's form, or that count something: no weights.
NO_WEIGHTS = ("total_ops", "total_params", "num_batches_tracked", "n_averaged", "num_updates", "position_ids",
              "relative_position_index", "relative_coords_table", "attn_mask", "inv_freq", "queue", "queue_ptr")  # fmt: skip
LIKE = 0.5  # share of keys that a layout must have in common with another to be named in an error


@dataclass(frozen=True)
class Fitted:
    """A state dict as a network wants it, the specs of that network, and a sentence for each thing that was done.

    Attributes:
        place: where in the checkpoint it is.
        copy: which of several copies of the network it is; None where there is one alone.
    """

    specs: tuple[BackboneSpec, ...]
    state: dict[str, Tensor]
    notes: tuple[str, ...]
    place: Place
    copy: str | None = None


@dataclass(frozen=True)
class Match:
    """How well a state dict fits a family: entirely, or with a share of all keys; and where in it that is."""

    names: tuple[str, ...]
    fits: bool
    similarity: float
    place: Place

    def is_part_of(self, other: "Match") -> bool:
        """True if the other one fits, too, and takes this one's keys among more."""
        inside = self.place.prefix.startswith(other.place.prefix) and self.place.prefix != other.place.prefix
        return other.fits and inside and other.place.n_keys > self.place.n_keys


def checkpoint_network(built: "nn.Module | Built") -> nn.Module:
    """The network whose keys a checkpoint has: a wrapper keeps it as `model`."""
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
    """The state dict of a network in a checkpoint: without prefixes, heads and what is no weights, its position
    embeddings resized; what else is wrong with it stays."""
    specs, checkpoint = tuple(specs), Checkpoint.of(state)
    wanted = layout(build, specs)
    places = checkpoint.places(wanted)
    inside, dropped = checkpoint.take(places[0], wanted)
    inside, copies = _without_copies(inside, places)
    if fit is not None:
        specs, inside = fit(specs, inside)
    wanted = layout(build, tuple(specs))
    extra = [
        key
        for key, value in inside.items()
        if key not in wanted
        and _is_extra(key, value)
        and not (key.endswith(COUNTERS) and _has_layer(key, inside) and not _has_layer(key, wanted))  # it says enough
    ]
    inside = {key: value for key, value in inside.items() if key not in extra}
    dropped = dropped + copies + extra
    notes = [describe_places(places, checkpoint.choice, file_name.removesuffix(f"#{checkpoint.choice}"))]
    notes += [f"Dropped {some_of(dropped, SHOWN_KEYS)} of {file_name}."] if dropped else []
    for key, value in inside.items():
        if key.endswith("pos_embed") and key in wanted and value.shape != wanted[key]:
            inside[key], note = _resized(value, wanted[key])
            notes += [f"{note} ({key} of {file_name})."] if note else []
    for key, shape in wanted.items():
        if key.endswith(COUNTERS) and _has_layer(key, inside):
            inside.setdefault(key, torch.zeros(shape, dtype=torch.int64))
    is_choice = len(places) > 1 or bool(checkpoint.choice)
    copy = places[0].name if is_choice else None
    return Fitted(tuple(specs), inside, tuple(filter(None, notes)), places[0], copy)


def _has_layer(counter: str, keys: Container[str]) -> bool:
    """Whether the layer that a counter of batches belongs to is there as well."""
    return counter.replace(COUNTERS, "running_mean") in keys


def _without_copies(inside: Mapping[str, Tensor], places: Sequence[Place]) -> tuple[dict[str, Tensor], list[str]]:
    """A state dict without copies of it that it holds under other keys, and their keys."""
    first, *others = places
    within = tuple(other.prefix.removeprefix(first.prefix) for other in others if other.prefix.startswith(first.prefix))
    within = tuple(filter(None, within))
    copies = [key for key in inside if within and key.startswith(within)]
    return {key: value for key, value in inside.items() if key not in set(copies)}, copies


def _is_extra(key: str, value: Tensor) -> bool:
    """True for heads, and for what is no weights: counters, indices, what an optimizer keeps."""
    return (
        _is_head(key)
        or key.split(".")[-1] in NO_WEIGHTS
        or not (value.is_floating_point() or value.is_complex())
        or ("." not in key and value.numel() == 1)
        or averaging(key.split(".")[:1]) < 0
    )


def _is_head(key: str) -> bool:
    return key.split(".")[0] in HEADS or key.startswith(DECODER)


def _resized(embeddings: Tensor, wanted: torch.Size) -> tuple[Tensor, str]:
    """Position embeddings for another number of patches and what was done; as they are, and "", where they cannot be.

    Bicubic without antialiasing, as MAE's `interpolate_pos_embed` does it for the networks it fine-tunes.

    Args:
        embeddings: (1, tokens, width), those of the class token (if there are any) first.
        wanted: the shape to bring them to.
    """
    if embeddings.ndim != 3 or len(wanted) != 3 or embeddings.shape[2] != wanted[2]:
        return embeddings, ""
    side = isqrt(wanted[1])
    n_first = wanted[1] - side**2
    n_patches = embeddings.shape[1] - n_first
    side_found = isqrt(max(n_patches, 0))
    if side_found == 0 or side_found**2 != n_patches:
        return embeddings, ""
    first, patches = embeddings[:, :n_first].float(), embeddings[:, n_first:].float()
    grid = patches.transpose(1, 2).unflatten(2, (side_found, side_found))
    grid = F.interpolate(grid, (side, side), mode="bicubic", align_corners=False)
    note = f"Position embeddings of {side_found}x{side_found} patches were interpolated to {side}x{side}"
    return torch.cat([first, grid.flatten(2).transpose(1, 2)], dim=1), note


def find_matches(state: Mapping[str, Tensor] | Checkpoint) -> list[Match]:
    """All registered families that have weights, those first that the state dict fits, then by similarity.

    A network that is a part of another one that fits, such as the DAN of EMMA, counts as one that does not.
    """
    checkpoint = Checkpoint.of(state)
    matches = [match for family in list_families() if family.has_weights if (match := _match(checkpoint, family))]
    matches = [replace(one, fits=one.fits and not any(map(one.is_part_of, matches))) for one in matches]
    return sorted(matches, key=lambda match: (match.fits, match.similarity), reverse=True)


def _match(state: Checkpoint, family: Family) -> Match | None:
    """How well a family fits; None for one of a plug-in whose builder fails."""
    try:
        fitted = fit_state(state, family.build, family.specs, family.fit, "")
        wanted = layout(family.build, fitted.specs)
    except Exception:
        if family.source:
            return None
        raise
    n_equal = sum(key in fitted.state and fitted.state[key].shape == shape for key, shape in wanted.items())
    n_keys = len(wanted.keys() | fitted.state.keys())
    names = tuple(spec.name for spec in fitted.specs)  # of the outputs that this file has
    return Match(names, not find_problems(fitted.state, wanted), n_equal / max(n_keys, 1), fitted.place)


def describe_likeness(state: Mapping[str, Tensor], name: str) -> str:
    """A sentence for errors: which backbones a state dict that does not fit `name` looks like."""
    best = find_matches(state)[0]
    if best.similarity < LIKE:
        return "It looks like no backbone known here."
    if name in best.names:
        return f"It looks like weights of {name} that are incomplete or changed."
    return f"It looks like weights of {' or '.join(best.names[:2])}."
