"""Weights files: found, opened without running code, and matched to a network key by key."""

import argparse
import hashlib
import os
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from abaw.errors import CheckpointError
from abaw.extract.backbone import UNTRAINED, BackboneSpec, Builder, Built, Fit
from abaw.extract.layouts import (
    PREFIXES,
    checkpoint_network,
    describe_likeness,
    find_matches,
    fit_state,
)
from abaw.state_dicts import SHOWN_KEYS, find_problems, show_problems

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".pkl")
CONTAINERS = ("state_dict", "model", "model_state_dict", "net")  # where training scripts put the state dict
# What training scripts save beside the weights: their options, and scores as numpy scalars, whose module has had two
# names. Making these objects runs nothing.
_SCALAR = np.float64(0).__reduce__()[0]
HARMLESS: list[Any] = [
    argparse.Namespace,
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("float32", "float64", "int64")),
    *((_SCALAR, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
]


def file_sha256(file: Path) -> str:
    """sha256 of a file, in hex."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def state_sha256(state: Mapping[str, Tensor]) -> str:
    """sha256 over the keys, shapes and values of a state dict: for weights that have no file of their own."""
    digest = hashlib.sha256()
    for key in sorted(state):
        values = state[key].detach().cpu().contiguous()
        digest.update(f"{key} {tuple(values.shape)} {values.dtype}".encode())
        digest.update(values.view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def default_weights(spec: BackboneSpec) -> Path | None:
    """The file of a family under $ABAW_WEIGHTS, such as `vit.safetensors`; None for those of the package or of timm.

    Raises:
        CheckpointError: there is no such file, and no public place to take the weights from.
    """
    file = file_in_weights_folder(spec)
    if file is not None:
        return file
    if spec.weights in ("timm", "shipped"):
        return None
    raise CheckpointError(f"Backbone {spec.name} needs a weights file of its authors. {how_to_pass(spec)}")


def file_in_weights_folder(spec: BackboneSpec) -> Path | None:
    """The file of a family in the folder that $ABAW_WEIGHTS names, if there is one."""
    stem, folder = spec.family.replace("/", "-"), os.environ.get("ABAW_WEIGHTS")
    files = [Path(folder) / f"{stem}{suffix}" for suffix in SUFFIXES] if folder else []
    return next((file for file in files if file.is_file()), None)


def how_to_pass(spec: BackboneSpec) -> str:
    """The ways to give a backbone its weights, as a sentence for errors."""
    stem = spec.family.replace("/", "-")
    return (
        f"Pass it as `--backbone {spec.name}:FILE`, or put it into $ABAW_WEIGHTS as {stem}.safetensors (or .pth), "
        "or say --untrained to go on with random weights."
    )


def read_state_dict(file: Path) -> dict[str, Tensor]:
    """The state dict in a checkpoint, out of its container and without the prefixes that all keys share.

    Raises:
        CheckpointError: as `read_tensors`.
    """
    return _strip_shared_prefixes(read_tensors(file))


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The state dict in a checkpoint, out of its container, its keys as they stand. Runs no code of the file.

    Raises:
        CheckpointError: no file, not a checkpoint, or a pickle that would need code to be run.
    """
    if not file.is_file():
        raise CheckpointError(f"No weights file {file}. Check the path after the colon of --backbone.")
    try:
        content = _read(file)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{file} holds more than tensors, or is a pickle that torch did not write ({_reason(error)}); opening it "
            "could run code, so it was not opened. Where it was made, or where you trust it, open it with "
            "torch.load(FILE, weights_only=False) or pickle.load, and save its state dict alone: "
            "torch.save(model.state_dict(), NEW_FILE)."
        ) from error
    except Exception as error:  # each format has errors of its own for damaged bytes
        raise CheckpointError(
            f"{file} cannot be read as weights ({_reason(error)}). It should be a .safetensors file or a state "
            "dict saved by torch; download it again if it was cut off."
        ) from error
    return _unwrap(content, file)


def _read(file: Path) -> Any:
    if file.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(file)
    with torch.serialization.safe_globals(HARMLESS):
        return torch.load(file, map_location="cpu", weights_only=True)


def _unwrap(content: Any, file: Path) -> dict[str, Tensor]:
    while isinstance(content, Mapping):
        inside = next((content[key] for key in CONTAINERS if isinstance(content.get(key), Mapping)), None)
        if inside is None:
            tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
            if tensors:
                return tensors
            found = ", ".join(str(key) for key in list(content)[:SHOWN_KEYS]) or "nothing"
            raise CheckpointError(
                f"{file} has no state dict: its keys are {found}. Save the model's state_dict() alone, "
                f"or under one of: {', '.join(CONTAINERS)}."
            )
        content = inside
    raise CheckpointError(
        f"{file} holds a {type(content).__name__}, not a state dict. Save model.state_dict() instead."
    )


def _strip_shared_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in PREFIXES:
        if state and all(key.startswith(prefix) for key in state):
            return _strip_shared_prefixes({key.removeprefix(prefix): value for key, value in state.items()})
    return state


def load_network(build: Builder, specs: Sequence[BackboneSpec], file: Path, fit: Fit | None = None) -> Built:
    """The network of some specs with the weights of a file, brought into the network's layout where that can be done.

    Args:
        build: of the family; given no file, it makes the network with random weights.
        specs: what is wanted.
        file: a checkpoint.
        fit: of the family.

    Raises:
        CheckpointError: the file cannot be read, or does not fit; the message says what it looks like.
    """
    state = read_tensors(file)
    fitted = fit_state(state, build, specs, fit, str(file))
    built = build([replace(spec, weights=UNTRAINED) for spec in fitted.specs], None)
    load_strictly(checkpoint_network(built), fitted.state, file, specs[0].name)
    network = built.network if isinstance(built, Built) else built
    return Built(network, fitted.specs, fitted.notes)


def load_strictly(network: nn.Module, state: Mapping[str, Tensor], file: Path, name: str) -> None:
    """Load a state dict whose keys and shapes must all be the network's; values become of its dtype.

    Raises:
        CheckpointError: they are not; the message shows the first missing, unexpected and misshapen keys, and which
            backbone the state dict looks like.
    """
    problems = find_problems(state, {key: value.shape for key, value in network.state_dict().items()})
    if problems:
        likeness = describe_likeness(state, name)
        raise CheckpointError(
            f"{file} does not fit {name}: {show_problems(problems)}. {likeness} Pass the weights of this very network."
        )
    network.load_state_dict(dict(state))


def identify(file: Path) -> list[str]:
    """Names of the backbones that a file fits, best first; empty if it fits none.

    Networks of one layout cannot be told apart by it: an MAE encoder and timm's ViT-B/16 both fit `mae-mean` and
    `vit-mean`, and MAE's comes first.

    Raises:
        CheckpointError: the file cannot be read.
    """
    matches = find_matches(read_tensors(file))
    return [name for match in matches if match.fits for name in match.names]


def _reason(error: Exception) -> str:
    """The first line of an error; of torch's refusals the first error below them, which names what was met."""
    cause = error.__context__ if isinstance(error, pickle.UnpicklingError) and error.__context__ else error
    line = (str(cause) or type(cause).__name__).splitlines()[0]
    return line.split(". ")[0].rstrip(".")
