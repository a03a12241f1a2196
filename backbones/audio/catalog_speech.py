"""Networks of Hugging Face's transformers over sound, by name: wav2vec 2.0, HuBERT, WavLM, Whisper's encoder, AST.

Some names carry options: `wav2vec2-layer6`, `hubert-last4` (the mean of the last four layers), `ast-0.5s` (hop).
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from abaw.backbones.audio.audio_specs import SECONDS, audio_spec, check_hop, has_package, need_package
from abaw.backbones.audio.checkpoint_keys import clean_ast, clean_waves, clean_whisper
from abaw.backbones.registry import Built, Family
from abaw.backbones.spec import BackboneSpec
from abaw.core.errors import UsageError
from abaw.media.waveform import RATE_HZ

if TYPE_CHECKING:
    import torch

    State = dict[str, torch.Tensor]

TRANSFORMERS = "transformers"
MAX_LAYERS = 64  # more than the largest published network has
AST_HOP_S = 1.0

WAV2VEC2 = audio_spec(
    *("wav2vec2", "wav2vec2", "last", (768,), "wav2vec 2.0 base, the last hidden states"),
    weights="file",
    rate_hz=50.0,
    parameters=94_371_712,
    licence="Apache-2.0 (wav2vec2-base-960h)",
)
HUBERT = replace(
    WAV2VEC2,
    name="hubert",
    family="hubert",
    architecture="HuBERT base, the last hidden states",
    licence="Apache-2.0 (hubert-base-ls960)",
)
WAVLM = replace(
    WAV2VEC2,
    name="wavlm",
    family="wavlm",
    architecture="WavLM base, the last hidden states",
    parameters=94_381_936,
    licence="CC BY-SA 3.0 (Microsoft's UniSpeech)",
)
WHISPER = audio_spec(
    *("whisper", "whisper", "last", (512,), "Whisper base, the encoder's last hidden states"),
    weights="file",
    rate_hz=50.0,
    parameters=20_590_592,
    licence="Apache-2.0 (openai/whisper-base)",
)
AST = audio_spec(
    *("ast", "ast", "pooled", (768,), "Audio Spectrogram Transformer base, a sliding window of 10.24 s"),
    weights="file",
    rate_hz=1 / AST_HOP_S,
    parameters=86_187_264,
    licence="BSD-3-Clause (MIT/ast-finetuned-audioset-10-10-0.4593)",
)


def fit_waves(specs: Sequence[BackboneSpec], state: "State") -> "tuple[Sequence[BackboneSpec], State]":
    """Translate old names of the weight norm, and drop heads, in checkpoints of transformers."""
    return specs, clean_waves(state)[0]


def fit_whisper(specs: Sequence[BackboneSpec], state: "State") -> "tuple[Sequence[BackboneSpec], State]":
    """Take the encoder out of a whole Whisper."""
    return specs, clean_whisper(state)[0]


def fit_ast(specs: Sequence[BackboneSpec], state: "State") -> "tuple[Sequence[BackboneSpec], State]":
    """Translate both names that transformers has had for the layers of AST, and drop the classifier."""
    return specs, clean_ast(state)[0]


def _is_layout(file: Path | None) -> bool:
    """Whether only the layout of a network is needed, on the meta device."""
    import torch

    return file is None and torch.get_default_device().type == "meta"


def _build_waves(specs: Sequence[BackboneSpec], file: Path | None) -> "torch.nn.Module | Built":
    import torch

    if _is_layout(file) and not has_package(TRANSFORMERS):
        return torch.nn.Module()  # without the extra its checkpoints are not recognised
    need_package(TRANSFORMERS, specs[0].name)
    from abaw.backbones.audio.wav2vec2 import CONFIGS, Wav2Vec2
    from abaw.backbones.audio.wav2vec2_weights import load_wav2vec2

    outputs, family = [spec.output for spec in specs], specs[0].family
    if file is None:
        network = Wav2Vec2(outputs, CONFIGS[family]())
        if not _is_layout(file):  # a layout has the keys of checkpoints
            network.fix_statistics()
        return network
    network, sha256, notes = load_wav2vec2(outputs, file, family)
    network.fix_statistics()
    config = network.model.config
    loaded = _as_loaded(specs, network, int(config.hidden_size), RATE_HZ / network.stride)
    kind = config.model_type if config.model_type != family else None
    return Built(network, [spec.with_options(model=kind) for spec in loaded], notes, sha256)


def _build_whisper(specs: Sequence[BackboneSpec], file: Path | None) -> "torch.nn.Module | Built":
    import torch

    if _is_layout(file) and not has_package(TRANSFORMERS):
        return torch.nn.Module()
    need_package(TRANSFORMERS, specs[0].name)
    from abaw.backbones.audio.whisper import Whisper, load_whisper

    outputs = [spec.output for spec in specs]
    if file is None:
        return Whisper(outputs)
    network, sha256, notes = load_whisper(outputs, file)
    loaded = _as_loaded(specs, network, int(network.model.config.d_model), RATE_HZ / network.stride)
    return Built(network, loaded, notes, sha256)


def _build_ast(specs: Sequence[BackboneSpec], file: Path | None) -> "torch.nn.Module | Built":
    import torch

    if _is_layout(file) and not has_package(TRANSFORMERS):
        return torch.nn.Module()
    need_package(TRANSFORMERS, specs[0].name)
    from abaw.backbones.audio.ast import Ast, load_ast

    hop = round(RATE_HZ / specs[0].rate_hz)
    if file is None:
        return Ast(hop)
    network, sha256, notes = load_ast(hop, file)
    loaded = _as_loaded(specs, network, int(network.model.config.hidden_size), specs[0].rate_hz)
    return Built(network, loaded, notes, sha256)


def _as_loaded(
    specs: Sequence[BackboneSpec], network: "torch.nn.Module", width: int, rate_hz: float
) -> list[BackboneSpec]:
    """Specs with the sizes of the loaded network."""
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return [replace(spec, shape=(width,), rate_hz=rate_hz, parameters=parameters) for spec in specs]


def _resolve_layers(spec: BackboneSpec, name: str) -> BackboneSpec | None:
    """`hubert-layer6`: the hidden states of one layer; `hubert-last4`: the mean of the last four."""
    family = spec.family
    match = re.fullmatch(rf"{family}-(layer|last)(\d+)", name)
    if match is None:
        return None
    kind, number = match[1], int(match[2])
    if kind == "layer":
        if number > MAX_LAYERS:
            raise UsageError(
                f"{family} has no layer {match[2]}: layer0 is the input of the first layer; base networks have up to layer12."
            )
        layer_name = f"hidden states of layer {number}"
    else:
        if number < 2:
            raise UsageError(f"{name} is a mean of fewer than two layers. For the last layer use {family}.")
        if number > MAX_LAYERS:
            raise UsageError(f"{family} has no {number} layers: use {family}-last4, for example.")
        layer_name = f"mean of the last {number} hidden states"
    network = spec.architecture.split(", ")[0]
    return replace(spec, name=name, output=f"{kind}{number}", architecture=f"{network}, {layer_name}")


def _resolve_ast(name: str) -> BackboneSpec | None:
    """`ast-0.5s`: another hop."""
    match = re.fullmatch(rf"ast-{SECONDS}", name)
    if match is None:
        return None
    hop_s = check_hop("ast", match[1], AST_HOP_S)
    return replace(AST, name=name, rate_hz=1 / hop_s).with_options(hop_s=hop_s if hop_s != AST_HOP_S else None)


FAMILIES = (
    *(
        Family(spec.family, (spec,), _build_waves, fit_waves, resolve=partial(_resolve_layers, spec))
        for spec in (WAV2VEC2, HUBERT, WAVLM)
    ),
    Family("whisper", (WHISPER,), _build_whisper, fit_whisper, resolve=partial(_resolve_layers, WHISPER)),
    Family("ast", (AST,), _build_ast, fit_ast, resolve=_resolve_ast),
)
