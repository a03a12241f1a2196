"""Weights files: finding them, opening them without running code, and matching them to a network key by key."""

import hashlib
import os
from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from abaw.backbones.checkpoint_fit import checkpoint_network, describe_likeness, find_matches, fit_state
from abaw.backbones.checkpoints import read_checkpoint, split_choice
from abaw.backbones.published import command_to_get
from abaw.backbones.registry import Builder, Built, Fit
from abaw.backbones.spec import UNTRAINED, BackboneSpec
from abaw.backbones.weights_folder import FOLDER, find_weights_file, weights_folder, weights_stem
from abaw.core.errors import CheckpointError, some_of
from abaw.core.state_dicts import SHOWN_KEYS, find_problems, show_problems


def file_sha256(file: Path) -> str:
    """sha256 of a file, in hex; for `FILE#CHOICE`, one of several copies in it, followed by `#CHOICE`."""
    path, choice = split_choice(file)
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return f"{digest}#{choice}" if choice else digest


def state_sha256(state: Mapping[str, Tensor]) -> str:
    """sha256 over the keys, shapes and values of a state dict: for weights that have no file of their own."""
    digest = hashlib.sha256()
    for key in sorted(state):
        values = state[key].detach().cpu().contiguous()
        digest.update(f"{key} {tuple(values.shape)} {values.dtype}".encode())
        digest.update(values.view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def default_weights(spec: BackboneSpec) -> Path | None:
    """A family's file in the weights folder, such as `vit.safetensors`; None for weights of the package or of timm.

    Raises:
        CheckpointError: the weights folder has no such file, and nothing else provides the weights.
    """
    file = find_weights_file(spec)
    if file is not None:
        return file
    if spec.weights in ("timm", "shipped"):
        return None
    kind = "folder" if spec.modality == "text" else "file"
    raise CheckpointError(f"Backbone {spec.name} needs a weights {kind} of its authors. {how_to_pass(spec)}")


def how_to_pass(spec: BackboneSpec) -> str:
    """The ways to give a backbone its weights, as a sentence for errors."""
    named = "$ABAW_WEIGHTS" if os.environ.get(FOLDER) else f"{weights_folder()} (or the folder that ABAW_WEIGHTS names)"
    command = command_to_get(spec)
    first = f"Get it with `{command}`, or pass it" if command else "Pass it"
    is_folder = spec.modality == "text"
    what, target = ("FOLDER", "/") if is_folder else ("FILE", ".safetensors (or .pth)")
    return (
        f"{first} as `--backbone {spec.name}:{what}`, or put it into {named} as {weights_stem(spec)}{target}, "
        "or use --untrained for random weights."
    )


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The largest state dict in a checkpoint, its keys unchanged. Runs no code of the file.

    Args:
        file: `FILE`, or `FILE#CHOICE` for one of several copies, such as `run.pth#student` and `list.pth#1`.

    Raises:
        CheckpointError: no file, not a checkpoint, or a pickle that would need code to be run.
    """
    return read_checkpoint(file).main()


def load_network(build: Builder, specs: Sequence[BackboneSpec], file: Path, fit: Fit | None = None) -> Built:
    """The network of some specs with the weights of a file, converted to the network's layout where possible.

    Args:
        build: of the family; without a file it makes the network with random weights.
        specs: outputs of one network.
        file: a checkpoint.
        fit: of the family.

    Raises:
        CheckpointError: the file cannot be read, or does not fit; the message says what it looks like.
    """
    fitted = fit_state(read_checkpoint(file), build, specs, fit, str(file))
    built = build([replace(spec, weights=UNTRAINED) for spec in fitted.specs], None)
    load_strictly(checkpoint_network(built), fitted.state, file, specs[0].name)
    network = built.network if isinstance(built, Built) else built
    sha256 = file_sha256(split_choice(file)[0])
    if fitted.copy is not None:  # the feature depends on the copy, too
        sha256 = f"{sha256}#{fitted.copy}"
    return Built(network, fitted.specs, fitted.notes, sha256)


def load_strictly(network: nn.Module, state: Mapping[str, Tensor], file: Path, name: str) -> None:
    """Load a state dict that must have exactly the keys and shapes of the network; values get its dtype.

    Raises:
        CheckpointError: keys or shapes differ; the message shows the first missing, unexpected and misshapen keys, and
            which backbone the state dict looks like. Or some values are not finite.
    """
    expected = network.state_dict()
    counters = {key: value for key, value in expected.items() if not value.is_floating_point()}  # and indices
    state = {**counters, **state}
    problems = find_problems(state, {key: value.shape for key, value in expected.items()})
    if problems:
        likeness = describe_likeness(state, name)
        raise CheckpointError(
            f"{file} does not fit {name}: {show_problems(problems)}. {likeness} Pass weights of this network."
        )
    check_numbers(state, file)
    network.load_state_dict(dict(state))


def check_numbers(state: Mapping[str, Tensor], file: Path) -> None:
    """Check that the weights of a file are finite numbers.

    Raises:
        CheckpointError: some are missing or not finite; the message names the first tensors.
    """
    without_values = [key for key, value in state.items() if value.is_meta or value.layout != torch.strided]
    if without_values:
        raise CheckpointError(
            f"{file} has no plain values for {some_of(without_values, SHOWN_KEYS)}. Save a dense state dict from the CPU."
        )
    broken = [key for key, value in state.items() if not bool(torch.isfinite(value).all())]
    if broken:
        raise CheckpointError(
            f"{file} has weights that are not finite (NaN or infinite): {some_of(broken, SHOWN_KEYS)}. Its "
            "training diverged, or it is damaged: take an earlier checkpoint, or download it again."
        )


def identify(file: Path, among: Container[str] | None = None) -> list[str]:
    """Names of the backbones that a file fits, best first; empty if it fits none.

    Networks with the same layout cannot be told apart: an MAE encoder and timm's ViT-B/16 both fit `mae-mean` and
    `vit-mean`; MAE's comes first.

    Args:
        among: names of families; None for all.

    Raises:
        CheckpointError: the file cannot be read.
    """
    matches = find_matches(read_checkpoint(file), among)
    return [name for match in matches if match.fits for name in match.names]
