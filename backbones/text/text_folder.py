"""Encoders of text from folders of Hugging Face: config, weights and the files of a tokenizer."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import AutoConfig, PretrainedConfig
from transformers.models.auto.tokenization_auto import AutoTokenizer
from transformers.utils import logging

from abaw.backbones.hidden_states import check_layers
from abaw.backbones.hub_folder import CONFIG, HubFolder, build, dropped_note, fill, read_folder
from abaw.backbones.published_files import TOKENIZER_FILES, VOCABULARIES
from abaw.backbones.text.text_encoder import CLS, MEAN, MOST_TOKENS, TextEncoder, Windows
from abaw.core.errors import CheckpointError, first_line

POOLER, POSITIONS = "pooler", "position_ids"
OLD_NAMES = {".LayerNorm.gamma": ".LayerNorm.weight", ".LayerNorm.beta": ".LayerNorm.bias"}  # of TensorFlow's BERT

logging.set_verbosity_error()


def load_text_encoder(outputs: Sequence[str], path: Path, is_full: bool) -> tuple[TextEncoder, str, tuple[str, ...]]:
    """The encoder of a folder, the sha256 of all that its vectors depend on, and notes on what was left out.

    Raises:
        CheckpointError: config, weights or tokenizer are missing or do not fit.
    """
    if not (path / CONFIG).is_file():
        what = f"has no {CONFIG}" if path.is_dir() else "is a file" if path.exists() else "does not exist"
        raise CheckpointError(
            f"{path} {what}; backbone text takes the folder of a model as Hugging Face publishes it, with {CONFIG}, "
            "weights and tokenizer. Pass it as --backbone text:FOLDER."
        )
    folder = read_folder(path)
    config = _read_config(folder)
    network = build(folder, lambda: TextEncoder(outputs, config, _no_windows, is_full))
    check_layers([name for name in outputs if name not in (MEAN, CLS)], network.n_layers, path)
    state, dropped = clean_text(folder.tensors(), network.model)
    fill(network.model, state, folder.weights, "text", is_folder=True)
    network.windows = _tokenizer_of(path, network.model)
    files = {name: _sha256(path / name) for name in TOKENIZER_FILES if (path / name).is_file()}
    return network, folder.sha256({"tokenizer": files}), dropped_note(dropped, folder.weights)


def _no_windows(text: str) -> list[list[int]]:
    raise AssertionError("the tokenizer is loaded last")


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _read_config(folder: HubFolder) -> PretrainedConfig:
    try:
        config = AutoConfig.from_pretrained(folder.path, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers checks little, and raises many types
        raise CheckpointError(f"The config in {folder.path} cannot be used ({first_line(error)}).") from error
    is_text = isinstance(getattr(config, "vocab_size", None), int) and not folder.is_of_sound
    if config.is_encoder_decoder or not is_text:
        what = "an encoder with a decoder" if config.is_encoder_decoder else "no network of texts"
        raise CheckpointError(
            f"{folder.path} is of the kind {folder.kind}, {what}; text takes encoders such as BERT, RoBERTa, DeBERTa, e5. "
            f"{folder.way_out()}"
        )
    return config


def clean_text(state: Mapping[str, Tensor], model: nn.Module) -> tuple[dict[str, Tensor], list[str]]:
    """A state dict with the keys of the network alone, and the keys of heads that were dropped.

    Args:
        model: of transformers, without its head.
    """
    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    if any(key.startswith(prefix) for key in state) and not any(key.startswith(prefix) for key in model.state_dict()):
        state = {
            key.removeprefix(prefix) if key.startswith(prefix) else f"/{key}": tensor for key, tensor in state.items()
        }
    parts = {key.split(".")[0] for key in model.state_dict()}
    cleaned, dropped = {}, []
    for key, tensor in state.items():
        for old, new in OLD_NAMES.items():
            key = key.removesuffix(old) + new if key.endswith(old) else key
        if key.split(".")[0] in parts and not key.endswith(POSITIONS):
            cleaned[key] = tensor
        elif key.split(".")[0] != POOLER and not key.endswith(POSITIONS):
            dropped.append(key.removeprefix("/"))
    return cleaned, dropped


def _tokenizer_of(path: Path, model: Any) -> Windows:
    """The tokenizer of a folder, which cuts texts into windows that the network takes.

    Raises:
        CheckpointError: it is missing, cannot be used, or is of another network.
    """
    if not any((path / name).is_file() for name in VOCABULARIES):  # transformers would make an empty one
        raise CheckpointError(
            f"{path} has no tokenizer: neither {VOCABULARIES[0]} nor another of {', '.join(VOCABULARIES[1:])}. Download all "
            "files of the model."
        )
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # many types, of several packages
        raise CheckpointError(
            f"The tokenizer in {path} cannot be used ({first_line(error)}). Download all files of the model; a tokenizer of "
            "sentencepiece needs pip install '.[text]' in abaw's folder."
        ) from error
    if not tokenizer.is_fast:
        raise CheckpointError(
            f"{path} has no {TOKENIZER_FILES[0]}, and its tokenizer has no fast form. Use another model."
        )
    if len(tokenizer) > model.config.vocab_size:
        raise CheckpointError(
            f"{path} has a tokenizer of {len(tokenizer):,} tokens and a network of {model.config.vocab_size:,}: they do not "
            "belong together. Download all files of the model again."
        )
    length = min(tokenizer.model_max_length, _n_positions(model), MOST_TOKENS)

    def windows(text: str) -> list[list[int]]:
        encoded = tokenizer(text, truncation=True, max_length=length, return_overflowing_tokens=True)
        return [list(tokens) for tokens in encoded["input_ids"]]

    return windows


def _n_positions(model: Any) -> int:
    """How many tokens the network has positions for; RoBERTa's begin after the padding index."""
    n_positions = getattr(model.config, "max_position_embeddings", None) or MOST_TOKENS
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            return int(n_positions - module.padding_idx - 1)
    return int(n_positions)
