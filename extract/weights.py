"""Weights files: found, opened without running code, and matched to a network key by key."""

import hashlib
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from abaw.errors import CheckpointError
from abaw.extract.backbone import BackboneSpec

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".pkl")
CONTAINERS = ("state_dict", "model", "model_state_dict", "net")  # where training scripts put the state dict
PREFIXES = ("module.", "backbone.", "encoder.")  # what wrappers put before every key
SHOWN_KEYS = 3


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
    """The file of a family under $ABAW_WEIGHTS, such as `vit.safetensors`; None to let timm download its own.

    Raises:
        CheckpointError: there is no such file, and no public place to take the weights from.
    """
    stem = spec.family.replace("/", "-")
    folder = os.environ.get("ABAW_WEIGHTS")
    for suffix in SUFFIXES if folder else ():
        file = Path(folder or "") / f"{stem}{suffix}"
        if file.is_file():
            return file
    if spec.weights == "timm":
        return None
    raise CheckpointError(f"Backbone {spec.name} needs a weights file of its authors. {how_to_pass(spec)}")


def how_to_pass(spec: BackboneSpec) -> str:
    """The ways to give a backbone its weights, as a sentence for errors."""
    stem = spec.family.replace("/", "-")
    return (
        f"Pass it as `--backbone {spec.name}:FILE`, or put it into $ABAW_WEIGHTS as {stem}.safetensors (or .pth), "
        "or say --untrained to go on with random weights."
    )


def read_state_dict(file: Path) -> dict[str, Tensor]:
    """The state dict in a checkpoint, out of its container and without wrapper prefixes. Runs no code of the file.

    Raises:
        CheckpointError: no file, not a checkpoint, or a pickle that would need code to be run.
    """
    if not file.is_file():
        raise CheckpointError(f"No weights file {file}. Check the path after the colon of --backbone.")
    try:
        content = _read(file)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{file} holds more than tensors ({_first_line(error)}), and opening it could run code, so it was not "
            "opened. Where it was made, save its state dict alone: torch.save(model.state_dict(), FILE)."
        ) from error
    except Exception as error:  # each format has errors of its own for damaged bytes
        raise CheckpointError(
            f"{file} cannot be read as weights ({_first_line(error)}). It should be a .safetensors file or a state "
            "dict saved by torch; download it again if it was cut off."
        ) from error
    return _strip_prefixes(_unwrap(content, file))


def _read(file: Path) -> Any:
    if file.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(file)
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


def _strip_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in PREFIXES:
        if all(key.startswith(prefix) for key in state):
            return _strip_prefixes({key.removeprefix(prefix): value for key, value in state.items()})
    return state


def load_strictly(network: nn.Module, state: Mapping[str, Tensor], file: Path, name: str) -> None:
    """Load a state dict whose keys and shapes must all be the network's.

    Raises:
        CheckpointError: they are not; the message shows the first missing, unexpected and misshapen keys.
    """
    wanted = network.state_dict()
    misshapen = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(wanted[key].shape)}"
        for key in wanted
        if key in state and state[key].shape != wanted[key].shape
    ]
    problems = {
        "missing": [key for key in wanted if key not in state],
        "unexpected": [key for key in state if key not in wanted],
        "misshapen": misshapen,
    }
    found = [f"{len(keys)} {kind} ({_shown(keys)})" for kind, keys in problems.items() if keys]
    if found:
        raise CheckpointError(f"{file} does not fit {name}: {'; '.join(found)}. Pass the weights of this very network.")
    network.load_state_dict(dict(state))


def _shown(keys: list[str]) -> str:
    return ", ".join(keys[:SHOWN_KEYS]) + (", ..." if len(keys) > SHOWN_KEYS else "")


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
