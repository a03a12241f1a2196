"""Checkpoints in the layouts of the authors of a network, converted to timm's layout by timm."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from math import isqrt
from pathlib import Path
from typing import Any, cast

import timm
import torch
from timm.models import _builder
from torch import Tensor, nn

from abaw.backbones.checkpoint_fit import checkpoint_network
from abaw.backbones.registry import Builder, Built
from abaw.backbones.spec import UNTRAINED, BackboneSpec
from abaw.backbones.vision.pooling import fit_pooling
from abaw.backbones.vision.timm_arguments import Options, model_of, to_arguments
from abaw.backbones.weights import load_network
from abaw.core.errors import CheckpointError, first_line, some_of
from abaw.core.state_dicts import SHOWN_KEYS

State = dict[str, Tensor]
Convert = Callable[[State, nn.Module], State]
# Tables that follow from the size of a window, and are recomputed.
RECOMPUTED = ("relative_position_index", "relative_coords_table", "attn_mask")
MAX_WRAPPERS = 4  # nested
_LOCK = threading.Lock()


@lru_cache
def converter(model: str, options: Options) -> tuple[nn.Module, Convert | None]:
    """A model on the meta device, and timm's conversion of checkpoints to its layout; None if timm has no conversion."""
    with _LOCK, _without_loading() as loaded, torch.device("meta"):
        timm.create_model(model, pretrained=True, num_classes=0, **to_arguments(model, options))
    return loaded[0]


@contextmanager
def _without_loading() -> Iterator[list[tuple[nn.Module, Convert | None]]]:
    """Inside, timm loads no weights, but appends the model and its conversion to a list; timm has no API for that."""
    calls: list[tuple[nn.Module, Convert | None]] = []
    load = _builder.load_pretrained

    def hand_over(model: nn.Module, *args: Any, filter_fn: Convert | None = None, **more: Any) -> None:
        calls.append((model, filter_fn))

    vars(_builder)["load_pretrained"] = hand_over
    try:
        yield calls
    finally:
        vars(_builder)["load_pretrained"] = load


def load_converted(build: Builder, specs: Sequence[BackboneSpec], file: Path) -> Built:
    """The network of some specs with the weights of a file in timm's own layout, or one that timm converts.

    Raises:
        CheckpointError: the file cannot be read, or does not fit.
    """
    notes: list[str] = []

    def fit(specs: Sequence[BackboneSpec], state: State) -> tuple[Sequence[BackboneSpec], State]:
        return convert(specs, state, notes, str(file))

    built = load_network(build, specs, file, fit)
    return replace(built, notes=(*notes, *built.notes))


def convert(
    specs: Sequence[BackboneSpec], state: State, notes: list[str] | None = None, where: str = ""
) -> tuple[Sequence[BackboneSpec], State]:
    """The specs that a state dict has, and the state dict in timm's layout; unchanged if timm cannot convert it.

    Args:
        specs: of one timm network.
        state: of a checkpoint, under any prefix.
        notes: a sentence for each change is appended.
        where: the file's name, for the notes.
    """
    specs = _as_pooled(specs, state)
    model, conversion = converter(model_of(specs[0]), specs[0].options)
    layout = {key: value.shape for key, value in model.state_dict().items()}
    most, before, after = -1, state, state
    for part in _under_prefixes(state):
        converted = _converted(part, model, conversion)
        n_equal = sum(key in converted and converted[key].shape == shape for key, shape in layout.items())
        if n_equal > most:
            most, before, after = n_equal, part, converted
        if n_equal == len(layout):
            break
    after = {key: value for key, value in after.items() if key in layout or not key.endswith(RECOMPUTED)}
    if notes is not None:
        notes += _what_was_done(before, after, model, where)
    return specs, after


def _as_pooled(specs: Sequence[BackboneSpec], state: Mapping[str, Tensor]) -> Sequence[BackboneSpec]:
    """A ViT that was fine-tuned on the mean of its tokens has `fc_norm` instead of `norm`."""
    if "fc_norm.weight" not in state or "norm.weight" in state:
        return specs
    usual, _ = converter(model_of(specs[0]), specs[0].options)
    return fit_pooling(specs, dict(state))[0] if "norm.weight" in usual.state_dict() else specs


def _under_prefixes(state: State) -> Iterator[State]:
    """A state dict unchanged, and then without each word that most of its keys begin with, one after the other."""
    yield state
    for _ in range(MAX_WRAPPERS):
        words = Counter(key.partition(".")[0] for key in state)
        word, n_keys = words.most_common(1)[0] if words else ("", 0)
        if 2 * n_keys < len(state):
            return
        state = {key.partition(".")[2]: value for key, value in state.items() if key.startswith(f"{word}.")}
        yield state


def _converted(state: State, model: nn.Module, conversion: Convert | None) -> State:
    if conversion is None:
        return state
    try:
        try:
            converted = conversion(dict(state), model)
        except TypeError:  # some conversions take only the state dict
            converted = cast(Any, conversion)(dict(state))
    except Exception:  # the state dict of another network; loading it reports the missing keys
        return state
    return {key: value for key, value in converted.items() if isinstance(value, Tensor)}


def _what_was_done(before: State, after: State, model: nn.Module, where: str) -> list[str]:
    """Sentences on a conversion: which keys were renamed, dropped and interpolated."""
    notes = []
    addresses = {value.data_ptr() for value in after.values()}
    groups: dict[str, list[str]] = {}
    for key in before:
        groups.setdefault(key.partition(".")[0], []).append(key)
    lost = [
        key
        for keys in groups.values()
        if not any(key in after or before[key].data_ptr() in addresses for key in keys)
        for key in keys
    ]
    if after.keys() - before.keys():
        notes.append(f"timm converted the keys of {where} to its own layout.")
    if lost:
        notes.append(f"Dropped {some_of(lost, SHOWN_KEYS)} of {where}.")
    resized = [
        key for key in after if key in before and _n_patches(before[key], model) != _n_patches(after[key], model)
    ]
    for key in [key for key in resized if key == "pos_embed"]:
        grid_before, grid = (_show_grid(_n_patches(state[key], model)) for state in (before, after))
        notes.append(f"Position embeddings of {grid_before} patches were interpolated to {grid} ({key} of {where}).")
    others = [key for key in resized if key != "pos_embed" and before[key].numel() != after[key].numel()]
    if others:
        notes.append(f"{some_of(others, SHOWN_KEYS)} of {where} were interpolated to this size.")
    return notes


def _n_patches(embeddings: Tensor, model: Any) -> int:
    """How many patches have position embeddings (1, tokens, width); for other tensors the number of values."""
    if embeddings.ndim != 3:
        return embeddings.numel()
    first = 0 if getattr(model, "no_embed_class", False) else getattr(model, "num_prefix_tokens", 0)
    return embeddings.shape[1] - first


def _show_grid(n_patches: int) -> str:
    side = isqrt(max(n_patches, 0))
    return f"{side}x{side}" if side**2 == n_patches else str(n_patches)


def load_numpy(build: Builder, specs: Sequence[BackboneSpec], file: Path) -> Built:
    """The network of some specs with the weights of a NumPy archive, as published by Google for ViT, BiT and Mixer.

    Raises:
        CheckpointError: not such an archive, the archive of another network, or a network that timm cannot load so.
    """
    if not file.is_file():
        raise CheckpointError(f"No weights file {file}. Check the path after the colon of --backbone.")
    built = build([replace(spec, weights=UNTRAINED) for spec in specs], None)
    network = checkpoint_network(built)
    name = specs[0].name
    if not hasattr(network, "load_pretrained"):
        raise CheckpointError(f"timm reads no .npz file of {name}: only those of Google's ViT, BiT and Mixer.")
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(torch.nan)  # whatever stays NaN is missing in the file
    try:
        cast(Any, network).load_pretrained(str(file))
    except Exception as error:  # missing keys, other shapes, no archive
        raise CheckpointError(f"{file} does not fit {name} ({first_line(error)}).") from error
    missing = [key for key, value in network.named_parameters() if value.isnan().any()]
    if missing:
        raise CheckpointError(f"{file} does not fit {name}: {some_of(missing, SHOWN_KEYS)} are missing or not numbers.")
    return Built(built.network if isinstance(built, Built) else built, specs)
