"""Model folders of Hugging Face's transformers: their settings and their weights, in one file or several."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from torch import Size, Tensor, nn

from abaw.backbones.audio.checkpoint_keys import MASK
from abaw.backbones.weights import check_numbers, file_sha256, read_tensors
from abaw.core.errors import CheckpointError, first_line, some_of
from abaw.core.json_files import read_json
from abaw.core.state_dicts import SHOWN_KEYS, find_problems, show_problems
from abaw.media.waveform import RATE_HZ

CONFIG = "config.json"
INDEX = ".index.json"
FILES = ("model.safetensors", "pytorch_model.bin")  # or the index of its parts
# Files with the preprocessing of sound: transformers 5 writes the first, earlier versions the second.
PROCESSOR, PREPROCESSOR = "processor_config.json", "preprocessor_config.json"
NESTED = ("feature_extractor", "audio_processor")  # its keys in the first
# Kind of network -> backbone; wav2vec2 also takes relatives that are no backbones here
FAMILIES = {
    **{kind: kind for kind in ("wav2vec2", "hubert", "wavlm", "whisper")},
    "audio-spectrogram-transformer": "ast",
    **dict.fromkeys(("data2vec-audio", "unispeech", "unispeech-sat", "wav2vec2-conformer", "sew", "sew-d"), "wav2vec2"),
}
VOLATILE = ("transformers_version", "_name_or_path")  # keys of a config that do not affect the network

Network = TypeVar("Network")


@dataclass(frozen=True)
class HubFolder:
    """A model folder of transformers.

    Attributes:
        path: the folder.
        config: of the network.
        extractor: settings of the network's input; None if missing.
        weights: the file of weights, or the index of several.
        files: all files of weights.
    """

    path: Path
    config: Mapping[str, Any]
    extractor: Mapping[str, Any] | None
    weights: Path
    files: tuple[Path, ...]

    @property
    def kind(self) -> str:
        """transformers' name of the kind of network, such as "hubert"."""
        return str(self.config.get("model_type", "?"))

    @property
    def is_of_sound(self) -> bool:
        """True if a backbone of sound takes it."""
        return self.kind in FAMILIES

    def way_out(self) -> str:
        """A sentence on what to do with a folder that was passed to the wrong backbone."""
        is_text = "vocab_size" in self.config and not self.config.get("is_encoder_decoder")
        family = FAMILIES.get(self.kind) or ("text" if is_text else "")
        return f"Pass it as --backbone {family}:{self.path}." if family else "There is no backbone for it."

    def tensors(self) -> dict[str, Tensor]:
        """All of its tensors by name."""
        return {key: value for file in self.files for key, value in read_tensors(file).items()}

    def sha256(self, settings: Mapping[str, Any]) -> str:
        """sha256 over the weights, the config and some settings of the extractor, all of which determine a feature."""
        config = {key: value for key, value in self.config.items() if key not in VOLATILE}
        text = json.dumps({**config, **settings}, sort_keys=True)
        parts = "+".join(file_sha256(file) for file in self.files)
        return hashlib.sha256(f"{parts} {text}".encode()).hexdigest()

    def setting(self, name: str, default: float) -> float:
        """A number that its extractor states.

        Raises:
            CheckpointError: it is not a number.
        """
        value = (self.extractor or {}).get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise CheckpointError(f"{self.path} states {name} {value!r}, which is not a number. Download it again.")
        return value


def read_folder(path: Path) -> HubFolder:
    """Read a folder.

    Raises:
        CheckpointError: config or weights are missing or cannot be read, or the model needs another sample rate.
    """
    if not (path / CONFIG).is_file():
        raise CheckpointError(f"{path} has no {CONFIG}. Pass a folder as Hugging Face publishes it, or a single file.")
    config = _read_object(path / CONFIG)
    weights, files = _find_weights(path)
    folder = HubFolder(path, config, _read_extractor(path), weights, files)
    rate_hz = folder.setting("sampling_rate", RATE_HZ)
    if rate_hz != RATE_HZ:
        raise CheckpointError(f"{path} needs sound at {rate_hz} Hz; abaw uses {RATE_HZ} Hz. Use another model.")
    return folder


def _read_object(file: Path) -> dict[str, Any]:
    try:
        content = read_json(file)
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} cannot be used ({first_line(error)}). Download it again.") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{file} cannot be used (it is not a JSON object). Download it again.")
    return content


def _read_extractor(path: Path) -> dict[str, Any] | None:
    """The extractor, where transformers looks for it: in the processor's config, else in its own file."""
    if (path / PROCESSOR).is_file():
        processor = _read_object(path / PROCESSOR)
        nested = next((processor[key] for key in NESTED if isinstance(processor.get(key), dict)), None)
        if nested is not None:
            return nested
    return _read_object(path / PREPROCESSOR) if (path / PREPROCESSOR).is_file() else None


def _find_weights(path: Path) -> tuple[Path, tuple[Path, ...]]:
    """The file of weights, or the index of several, and all files in order of their names."""
    for name in FILES:
        if (path / name).is_file():
            return path / name, (path / name,)
        index = path / f"{name}{INDEX}"
        if index.is_file():
            return index, _parts(index)
    names = ", ".join(sorted(file.name for file in path.iterdir())[:5]) or "nothing"
    raise CheckpointError(
        f"{path} lacks weights ({', '.join(FILES)}, or an index of several files); it contains {names}. Download all of its files."
    )


def _parts(index: Path) -> tuple[Path, ...]:
    weight_map = _read_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index} cannot be used (it has no weight_map). Download it again.")
    names = sorted({str(name) for name in weight_map.values()})
    missing = [name for name in names if Path(name).name != name or not (index.parent / name).is_file()]
    if missing:
        raise CheckpointError(
            f"{index.parent} lacks {len(missing)} of the {len(names)} files of its weights "
            f"({some_of(missing, SHOWN_KEYS)}). Download these, too."
        )
    return tuple(index.parent / name for name in names)


def fill(model: nn.Module, state: Mapping[str, Tensor], where: Path, name: str, is_folder: bool) -> None:
    """Load tensors, which must have the names and shapes of the network; the mask of training may be missing.

    Args:
        where: their file.
        name: of the backbone, for errors.
        is_folder: True if the folder of the file was passed.

    Raises:
        CheckpointError: they do not fit.
    """
    state = {key: value for key, value in state.items() if key != MASK}
    layout: dict[str, Size] = {key: value.shape for key, value in model.state_dict().items() if key != MASK}
    problems = find_problems(state, layout)
    if problems:
        way_out = "Download it again." if is_folder else f"Pass its whole folder instead, with {CONFIG}."
        raise CheckpointError(f"{where} does not fit {name}: {show_problems(problems)}. {way_out}")
    check_numbers(state, where)
    model.float().load_state_dict(state, strict=False)


def build(folder: HubFolder, make: Callable[[], Network]) -> Network:
    """Make the network that a folder's config describes.

    Raises:
        CheckpointError: the config is inconsistent or invalid.
    """
    try:
        return make()
    except Exception as error:
        raise CheckpointError(
            f"{folder.path / CONFIG} describes no network ({first_line(error)}). Download it again."
        ) from error


def assumed_note(folder: HubFolder, part: str) -> tuple[str, ...]:
    """A note on what was assumed about a network's input, if its folder has no settings of it."""
    if folder.extractor is not None:
        return ()
    return (
        f"{folder.path} has neither {PREPROCESSOR} nor a {PROCESSOR} with a feature extractor: assumed {part}, the "
        "default of transformers.",
    )


def dropped_note(dropped: list[str], where: Path) -> tuple[str, ...]:
    """A note on tensors that were dropped, if any."""
    return (f"Dropped {some_of(dropped, SHOWN_KEYS)} of {where}.",) if dropped else ()
