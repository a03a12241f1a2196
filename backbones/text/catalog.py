"""The text backbones by name: specs, and builders that load torch and transformers when they are called.

`text` takes any encoder of transformers from a folder. Names carry options: `text-cls` (the first token), `text-layer6`,
`text-last4` (the mean of the last four layers), each with `-full` at the end for the vector of the whole transcript at
every row. `speech-timing` is about the whole video, `speech-timing-8s` about 8 seconds around each row.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from abaw.backbones.audio.audio_specs import SECONDS, has_package, need_package
from abaw.backbones.registry import Built, Family
from abaw.backbones.spec import BackboneSpec
from abaw.backbones.text.timing_names import TIMING_NUMBERS
from abaw.core.errors import UsageError

if TYPE_CHECKING:
    import torch

TRANSFORMERS = "transformers"
MAX_LAYERS = 64
WINDOW_S = (1.0, 600.0)  # of speech-timing, least and most

TEXT = BackboneSpec(
    *(
        "text",
        "text",
        "mean",
        "text",
        (768,),
        "Encoder of transformers, mean of the tokens of what is said at each frame",
    ),
    weights="file",
    parameters=85_648_128,
    licence="that of the model; MIT (FacebookAI/roberta-base)",
)
TIMING = BackboneSpec(
    *("speech-timing", "speech-timing", "timing", "text", (len(TIMING_NUMBERS),)),
    "Gaps, rate and pauses of speech, from the times of a transcript",
    weights="none",
    classes=tuple(TIMING_NUMBERS),
    dtype="float32",
)


def _build_text(specs: Sequence[BackboneSpec], file: Path | None) -> "torch.nn.Module | Built":
    import torch

    if file is None and torch.get_default_device().type == "meta" and not has_package(TRANSFORMERS):
        return torch.nn.Module()  # without the extra its checkpoints are not recognised
    need_package(TRANSFORMERS, specs[0].name, "text")
    from abaw.backbones.text.text_encoder import TextEncoder, byte_windows, untrained_config

    outputs, is_full = [spec.output for spec in specs], specs[0].option("rows", "") == "full"
    if file is None:
        return TextEncoder(outputs, untrained_config(), byte_windows, is_full)
    from abaw.backbones.text.text_folder import load_text_encoder

    network, sha256, notes = load_text_encoder(outputs, file, is_full)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    width, kind = int(network.model.config.hidden_size), str(network.model.config.model_type)
    loaded = [replace(spec, shape=(width,), parameters=parameters).with_options(model=kind) for spec in specs]
    return Built(network, loaded, notes, sha256)


def _resolve_text(name: str) -> BackboneSpec | None:
    """`text-cls`, `text-layer6`, `text-last4`, and these and `text` with `-full`."""
    match = re.fullmatch(r"text(?:-(cls|(layer|last)(\d{1,3})))?(-full)?", name)
    if match is None or name == TEXT.name:
        return None
    output, kind, number = match[1] or TEXT.output, match[2], int(match[3] or 0)
    if kind and not (2 if kind == "last" else 0) <= number <= MAX_LAYERS:
        raise UsageError(f"{name} names layers that no network has: text-layer0 to text-layer24, or text-last4.")
    of_tokens = "first token" if output == "cls" else "mean of the tokens"
    of_layers = f", layer {number}" if kind == "layer" else f", the last {number} layers" if kind else ""
    what = "the whole transcript" if match[4] else "what is said at each frame"
    spec = replace(
        TEXT, name=name, output=output, architecture=f"Encoder of transformers{of_layers}, {of_tokens} of {what}"
    )
    return spec.with_options(rows="full") if match[4] else spec


def _build_timing(specs: Sequence[BackboneSpec], file: Path | None) -> "torch.nn.Module":
    from abaw.backbones.text.speech_timing import SpeechTiming

    return SpeechTiming(float(specs[0].option("window_s", None) or 0))


def _resolve_timing(name: str) -> BackboneSpec | None:
    """`speech-timing-8s`: numbers of a window."""
    match = re.fullmatch(rf"{TIMING.name}-{SECONDS}", name)
    if match is None:
        return None
    window_s = float(match[1])
    if not WINDOW_S[0] <= window_s <= WINDOW_S[1]:
        raise UsageError(f"{name} needs a window from {WINDOW_S[0]:g} to {WINDOW_S[1]:g} s, such as {TIMING.name}-8s.")
    what = f"{TIMING.architecture}, in {window_s:g} s around each frame"
    return replace(TIMING, name=name, architecture=what).with_options(window_s=window_s)


FAMILIES = (
    Family("text", (TEXT,), _build_text, resolve=_resolve_text, syntax="text-cls, text-layer6, text-last4, text-full"),
    Family("speech-timing", (TIMING,), _build_timing, resolve=_resolve_timing),
)
