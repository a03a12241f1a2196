"""Weights of wav2vec 2.0, HuBERT and WavLM: a folder of Hugging Face, or a single file with a base network."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor
from transformers import AutoConfig, PretrainedConfig
from transformers.utils import logging

from abaw.backbones.audio.checkpoint_keys import clean_waves
from abaw.backbones.audio.wav2vec2 import CONFIGS, Wav2Vec2
from abaw.backbones.hidden_states import check_layers, wants_layers
from abaw.backbones.hub_folder import FAMILIES, HubFolder, assumed_note, build, dropped_note, fill, read_folder
from abaw.backbones.weights import file_sha256, read_tensors
from abaw.core.errors import CheckpointError, first_line

NORMALISE = "do_normalize"
ADAPTER = ".adapter."  # it has its own note

logging.set_verbosity_error()


def load_wav2vec2(
    outputs: Sequence[str], path: Path, family: str = "wav2vec2"
) -> tuple[Wav2Vec2, str, tuple[str, ...]]:
    """The network with the weights of a folder or a file, their sha256, and notes on what was changed and assumed.

    Raises:
        CheckpointError: the weights are missing or do not fit.
    """
    if not path.is_dir():
        network = Wav2Vec2(outputs, CONFIGS[family]())
        check_layers(outputs, network.n_layers, path)
        notes = _fill(network, read_tensors(path), path, family, is_folder=False)
        note = f"Assumed that {path} is a {family} of base size for normalised sound: a file does not say."
        return network, file_sha256(path), (note, *notes)
    folder = read_folder(path)
    normalise = bool((folder.extractor or {}).get(NORMALISE, True))
    config = _read_config(folder, family)
    network = build(folder, lambda: Wav2Vec2(outputs, config, normalise))
    _check(network, outputs, folder)
    notes = _fill(network, folder.tensors(), folder.weights, family, is_folder=True)
    if folder.config.get("add_adapter"):
        notes += (f"{path} has an adapter, which makes fewer states: the states are those before it, every 20 ms.",)
    notes += assumed_note(folder, f"{NORMALISE} to be true")
    return network, folder.sha256({NORMALISE: normalise}), notes


def _fill(network: Wav2Vec2, state: dict[str, Tensor], where: Path, family: str, is_folder: bool) -> tuple[str, ...]:
    parts = {key.split(".")[0] for key in network.model.state_dict()}
    state, dropped = clean_waves(state, parts)
    fill(network.model, state, where, family, is_folder)
    return dropped_note([key for key in dropped if ADAPTER not in f".{key}"], where)


def _check(network: Wav2Vec2, outputs: Sequence[str], folder: HubFolder) -> None:
    check_layers(outputs, network.n_layers, folder.path)
    if network.squeeze > 1 and wants_layers(outputs):
        raise CheckpointError(
            f"{folder.path} is of the kind {folder.kind}, whose layers see {network.squeeze} frames at once; only its last "
            "states are of single frames. Omit -layer or -last."
        )


def _read_config(folder: HubFolder, family: str) -> PretrainedConfig:
    """The network's config; `wav2vec2` takes all networks of its kind, the others only their own."""
    kind = folder.kind
    if FAMILIES.get(kind) not in CONFIGS:
        raise CheckpointError(
            f"{folder.path} is of the kind {kind}, not a wav2vec 2.0, HuBERT or WavLM for waveforms. {folder.way_out()}"
        )
    if family != "wav2vec2" and kind != family:
        raise CheckpointError(f"{folder.path} is of the kind {kind}, not a {family}. {folder.way_out()}")
    try:
        return AutoConfig.from_pretrained(folder.path, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers checks little, and raises many types
        raise CheckpointError(f"The config in {folder.path} cannot be used ({first_line(error)}).") from error
