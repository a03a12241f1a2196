"""Weights of wav2vec 2.0: a folder of Hugging Face's, or a single file in the layout of wav2vec2-base-960h."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from transformers import AutoConfig, PretrainedConfig
from transformers.utils import logging

from abaw.errors import CheckpointError, some_of
from abaw.extract.audio.keys import MASK, clean_keys
from abaw.extract.audio.wav2vec2 import LAST, Wav2Vec2
from abaw.extract.weights import file_sha256, read_tensors
from abaw.places import first_line
from abaw.state_dicts import SHOWN_KEYS, find_problems, show_problems

FILES = ("model.safetensors", "pytorch_model.bin")
CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"

logging.set_verbosity_error()


def load_wav2vec2(outputs: Sequence[str], path: Path) -> tuple[Wav2Vec2, str, tuple[str, ...]]:
    """The network with the weights of a folder or a file, the sha256 of both, and what was done to make them fit.

    Raises:
        CheckpointError: nothing is there, or it does not fit.
    """
    network = _network(outputs, path) if path.is_dir() else Wav2Vec2(outputs)
    file = _weights_file(path) if path.is_dir() else path
    wanted_layers = [int(name.removeprefix("layer")) for name in outputs if name != LAST]
    if max(wanted_layers, default=0) > network.n_layers:
        raise CheckpointError(
            f"{path} has {network.n_layers} layers: take layer0 to layer{network.n_layers}, not layer{max(wanted_layers)}."
        )
    state, dropped = clean_keys(read_tensors(file))
    state.pop(MASK, None)
    own = {key: value.shape for key, value in network.model.state_dict().items() if key != MASK}
    problems = find_problems(state, own)
    if problems:
        way_out = "Pass its whole folder instead, with config.json." if not path.is_dir() else "Download it again."
        raise CheckpointError(f"{file} does not fit wav2vec2: {show_problems(problems)}. {way_out}")
    network.model.load_state_dict(state, strict=False)
    notes = (f"Dropped {some_of(dropped, SHOWN_KEYS)} of {file}.",) if dropped else ()
    return network, _sha256(path, file), notes


def _weights_file(folder: Path) -> Path:
    file = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if file is None:
        names = ", ".join(sorted(path.name for path in folder.iterdir())[:5]) or "nothing"
        raise CheckpointError(f"{folder} has none of {', '.join(FILES)}; it holds {names}. Download it in one piece.")
    return file


def _network(outputs: Sequence[str], folder: Path) -> Wav2Vec2:
    """The network that a folder's config describes, with random weights."""
    config, normalise = _read_config(folder)
    try:
        return Wav2Vec2(outputs, config, normalise)
    except Exception as error:  # sizes that do not fit each other, or are no sizes
        raise CheckpointError(
            f"{folder / CONFIG} describes no network ({first_line(error)}). Download it again."
        ) from error


def _read_config(folder: Path) -> tuple[PretrainedConfig, bool]:
    """The network's config, and whether its sounds are normalised."""
    if not (folder / CONFIG).is_file():
        raise CheckpointError(
            f"{folder} has no {CONFIG}. Pass a folder as Hugging Face publishes it, or a single file."
        )
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        extractor = folder / PREPROCESSOR
        normalise = json.loads(extractor.read_text()).get("do_normalize", True) if extractor.is_file() else True
    except Exception as error:  # transformers checks little of it, and raises many types
        raise CheckpointError(f"The config in {folder} cannot be used ({first_line(error)}).") from error
    if not hasattr(config, "conv_kernel"):
        kind = getattr(config, "model_type", "?")
        raise CheckpointError(f"{folder} holds a {kind}, not a wav2vec 2.0, HuBERT or WavLM that hears waveforms.")
    return config, bool(normalise)


def _sha256(path: Path, file: Path) -> str:
    """Of a file its own; of a folder that of the weights and what is said of them, for both fix the feature."""
    if not path.is_dir():
        return file_sha256(file)
    config = json.loads((path / CONFIG).read_text())
    said = {key: value for key, value in config.items() if key not in ("transformers_version", "_name_or_path")}
    extractor = path / PREPROCESSOR
    said["do_normalize"] = json.loads(extractor.read_text()).get("do_normalize", True) if extractor.is_file() else True
    return hashlib.sha256(f"{file_sha256(file)} {json.dumps(said, sort_keys=True)}".encode()).hexdigest()
