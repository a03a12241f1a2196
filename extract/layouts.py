"""Layouts of checkpoints, key -> shape: what a network wants, and how a state dict of another form is brought to it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import isqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from abaw.errors import some_of
from abaw.extract.backbone import UNTRAINED, BackboneSpec, Builder, Built, Family, Fit, list_families
from abaw.state_dicts import SHOWN_KEYS, find_problems

PREFIXES = ("module.", "backbone.", "encoder.")  # what wrappers put before every key
# First words of keys that belong to what was trained on top of a backbone, or to MAE's decoder.
HEADS = ("head", "heads", "head_dist", "fc", "classifier", "cls_head", "last_linear", "logits", "mask_token")
DECODER = "decoder_"
LIKE = 0.5  # share of keys that a layout must have in common with another to be named in an error

Layout = Mapping[str, torch.Size]


@dataclass(frozen=True)
class Fitted:
    """A state dict as a network wants it, the specs of that network, and a sentence for each thing that was done."""

    specs: tuple[BackboneSpec, ...]
    state: dict[str, Tensor]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Match:
    """How well a state dict fits a family: entirely, or with a share of all keys."""

    names: tuple[str, ...]
    fits: bool
    similarity: float


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
    state: Mapping[str, Tensor], build: Builder, specs: Sequence[BackboneSpec], fit: Fit | None, file_name: str
) -> Fitted:
    """A state dict without prefixes and heads, its position embeddings resized; what else is wrong with it stays."""
    specs = tuple(specs)
    inside, dropped = _under_prefix(state, layout(build, specs))
    if fit is not None:
        specs, inside = fit(specs, inside)
    wanted = layout(build, tuple(specs))
    heads = [key for key in inside if key not in wanted and _is_head(key)]
    inside = {key: value for key, value in inside.items() if key not in heads}
    notes = [f"Dropped {some_of(dropped + heads, SHOWN_KEYS)} of {file_name}."] if dropped or heads else []
    for key, value in inside.items():
        if key.endswith("pos_embed") and key in wanted and value.shape != wanted[key]:
            inside[key], note = _resized(value, wanted[key])
            notes += [f"{note} ({key} of {file_name})."] if note else []
    for key, shape in wanted.items():  # counters of training batches, which files of before 2018 do not have
        if key.endswith("num_batches_tracked") and key.replace("num_batches_tracked", "running_mean") in inside:
            inside.setdefault(key, torch.zeros(shape, dtype=torch.int64))
    return Fitted(tuple(specs), inside, tuple(notes))


def _under_prefix(state: Mapping[str, Tensor], wanted: Layout) -> tuple[dict[str, Tensor], list[str]]:
    """The part of a state dict under the wrapper prefixes where most of the wanted keys are, and the keys outside."""
    candidates = [("", dict(state))]
    for outer, part in candidates:  # grows while it is gone through: wrappers nest
        for prefix in PREFIXES:
            inside = {key.removeprefix(prefix): value for key, value in part.items() if key.startswith(prefix)}
            if inside:
                candidates.append((outer + prefix, inside))
    # the first of equals, the state dict as it stands, wins: a network may have keys that begin so itself
    prefix, best = max(candidates, key=lambda candidate: sum(key in wanted for key in candidate[1]))
    return best, [key for key in state if not key.startswith(prefix)]


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


def find_matches(state: Mapping[str, Tensor]) -> list[Match]:
    """All registered families that have weights, those first that the state dict fits, then by similarity."""
    families = [family for family in list_families() if next(iter(family.specs.values())).weights != "none"]
    matches = [_match(state, family) for family in families]
    return sorted(matches, key=lambda match: (match.fits, match.similarity), reverse=True)


def _match(state: Mapping[str, Tensor], family: Family) -> Match:
    fitted = fit_state(state, family.build, list(family.specs.values()), family.fit, "")
    wanted = layout(family.build, fitted.specs)
    n_equal = sum(key in fitted.state and fitted.state[key].shape == shape for key, shape in wanted.items())
    n_keys = len(wanted.keys() | fitted.state.keys())
    return Match(tuple(family.specs), not find_problems(fitted.state, wanted), n_equal / n_keys)


def describe_likeness(state: Mapping[str, Tensor], name: str) -> str:
    """A sentence for errors: which backbones a state dict that does not fit `name` looks like."""
    best = find_matches(state)[0]
    if best.similarity < LIKE:
        return "It looks like no backbone known here."
    if name in best.names:
        return f"It looks like weights of {name} that are incomplete or changed."
    return f"It looks like weights of {' or '.join(best.names[:2])}."
