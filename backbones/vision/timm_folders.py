"""Folders of timm models, as `save_for_hf` writes them: config.json and weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from abaw.core.errors import CheckpointError, some_of
from abaw.core.json_files import read_json

CONFIG = "config.json"
# in the order in which timm looks for them
WEIGHTS = (
    "model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.pth",
    "model.pth",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
)
SUFFIXES = (".safetensors", ".pth", ".pth.tar", ".bin")
SHOWN_FILES = 6
OF_THE_HEAD = ("num_classes", "in_chans", "drop_rate", "drop_path_rate")


@dataclass(frozen=True)
class Config:
    """A model with its configuration.

    Attributes:
        model: of timm.
        pretrained_cfg: its input, as timm's PretrainedCfg has it.
        arguments: of timm.create_model that differ from the model's defaults.
    """

    model: str
    pretrained_cfg: Mapping[str, Any]
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the input in pixels."""
        _, height, width = self.pretrained_cfg.get("input_size", (3, 224, 224))
        return int(height), int(width)


def read_config(folder: Path) -> dict[str, Any] | None:
    """The content of a folder's config.json; None if the file is missing.

    Raises:
        CheckpointError: it cannot be read.
    """
    file = folder / CONFIG
    if not file.is_file():
        return None
    try:
        content = read_json(file)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} cannot be read ({error}). Download it again.") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{file} holds a {type(content).__name__}, not a model's configuration.")
    return content


def parse_config(content: Mapping[str, Any], where: str) -> Config:
    """A configuration in timm's format, also that before 2023 without nested keys.

    Raises:
        CheckpointError: another format, or a network whose images do not have three channels.
    """
    model = content.get("architecture")
    if not isinstance(model, str):
        if "model_type" in content:
            kind = content["model_type"]
            raise CheckpointError(f"{where} is of transformers ({kind}), not of timm. Use timm/local-dir:FOLDER.")
        keys = some_of(list(content), SHOWN_FILES) or "none"
        raise CheckpointError(f"The config of {where} names no timm architecture; its keys are {keys}.")
    cfg = content.get("pretrained_cfg", content)
    arguments = dict(content.get("model_args") or {})
    channels = arguments.get("in_chans", cfg.get("input_size", (3,))[0])
    if channels != 3:
        raise CheckpointError(f"{where} is of a network for images of {channels} channels; faces here have 3.")
    cfg = {key: tuple(value) if isinstance(value, list) else value for key, value in cfg.items()}
    size = arguments.get("img_size")
    if size is not None:
        sides = (size, size) if isinstance(size, int) else tuple(size)
        cfg["input_size"] = (3, *sides)
    return Config(model, cfg, {key: value for key, value in arguments.items() if key not in OF_THE_HEAD})


def folder_weights(folder: Path) -> Path:
    """The weights file in a folder, as timm chooses it.

    Raises:
        CheckpointError: the file is missing, or the weights are in several files.
    """
    file = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    files = sorted(path.name for path in folder.iterdir() if path.is_file())
    if file is None:
        of_kind = [name for suffix in SUFFIXES for name in files if name.endswith(suffix)]
        parts = [name for name in files if name.endswith(".index.json")]
        if parts:
            raise CheckpointError(
                f"{folder} has its weights in several files ({parts[0]}), which timm does not read. "
                "Save them in one: model.save_pretrained(FOLDER, max_shard_size='100GB')."
            )
        if not of_kind:
            holds = some_of(files, SHOWN_FILES) or "no files"
            raise CheckpointError(f"{folder} has no weights such as {WEIGHTS[0]}; it holds {holds}.")
        file = folder / of_kind[0]
    return file
