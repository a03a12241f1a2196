"""The audio backbones by name: specs, and builders that load torch and the packages of the extra when they are called.

Some names carry options: `vggish-0.96s` (hop), `egemaps-functionals-4s-1s` (window and hop), `wav2vec2-layer6`.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from abaw.errors import UsageError
from abaw.extract.audio.descriptors import COMPARE_NAMES, EGEMAPS_NAMES
from abaw.extract.audio.keys import clean_keys
from abaw.extract.backbone import Built, register
from abaw.extract.spec import BackboneSpec

if TYPE_CHECKING:
    import torch

    State = dict[str, torch.Tensor]

SMILE_LICENCE = "audEERING Research License (openSMILE): not for commercial use"
VGGISH_HOP_S = 0.24
WINDOW_S, HOP_S = 4.0, 1.0  # of functionals
WIDE = "float32"  # descriptors of openSMILE exceed float16
WAV2VEC2_LAYERS = 48  # of the largest published


def _spec(
    name: str, family: str, output: str, shape: tuple[int, ...], architecture: str, **more: object
) -> BackboneSpec:
    base = BackboneSpec(name, family, output, "audio", shape, architecture, weights="none")
    return replace(base, **more)  # type: ignore[arg-type]


@register(
    _spec(
        *("spectrogram", "spectrogram", "spectrogram", (1, 128, 128)),
        "log-mel: 128 HTK bands 20-8000 Hz, 128 steps of 10 ms (25 ms Hann, magnitudes, log(x + 0.01)) around the frame",
    )
)
def _build_spectrogram(specs: Sequence[BackboneSpec], file: Path | None) -> "torch.nn.Module":
    from abaw.extract.audio.spectrogram import Spectrogram

    return Spectrogram()


def _vggish_spec(name: str, output: str, what: str) -> BackboneSpec:
    return _spec(
        *(name, "vggish", output, (128,), f"VGGish, {what}"),
        weights="file",
        rate_hz=1 / VGGISH_HOP_S,
        parameters=72_141_184,
        licence="Apache-2.0 (Google's VGGish, torchvggish); trained on YouTube-8M",
    )


def fit_vggish(specs: Sequence[BackboneSpec], state: "State") -> "tuple[Sequence[BackboneSpec], State]":
    """Checkpoints may hold the projection of `vggish-pca` beside the network; it is read apart."""
    return specs, {key: value for key, value in state.items() if not key.startswith(("pproc.", "pca_"))}


@register(
    _vggish_spec("vggish", "embedding", "before the last ReLU"),
    _vggish_spec("vggish-relu", "relu", "after the last ReLU"),
    _vggish_spec("vggish-pca", "pca", "projected, clipped and quantised to 0..255 as AudioSet's features"),
    fit=fit_vggish,
)
def _build_vggish(specs: Sequence[BackboneSpec], file: Path | None) -> "torch.nn.Module | Built":
    from abaw.extract.audio.vggish import Vggish
    from abaw.extract.audio.vggish_pca import load_pca
    from abaw.extract.weights import file_sha256, load_network

    outputs = [spec.output for spec in specs]
    if file is None:
        return Vggish(outputs, hop_steps=round(100 / specs[0].rate_hz))
    built = load_network(_build_vggish, specs, file, fit_vggish)
    if "pca" not in outputs:
        return built
    assert isinstance(built.network, Vggish)
    pca_sha256 = load_pca(built.network, file)
    return replace(built, weights_sha256=pca_sha256 and f"{file_sha256(file)}+{pca_sha256}")


def _register_smile(family: str, architecture: str, names: tuple[str, ...], n_functionals: int) -> None:
    @register(
        _spec(
            *(family, family, "lld", (len(names),), f"openSMILE {architecture}, every 10 ms"),
            classes=names,
            rate_hz=100.0,
            dtype=WIDE,
            licence=SMILE_LICENCE,
        )
    )
    def build_descriptors(specs: Sequence[BackboneSpec], file: Path | None) -> "torch.nn.Module":
        _need("opensmile", family)
        from abaw.extract.audio.smile import SmileDescriptors

        return SmileDescriptors(family)

    functionals = f"{family}-functionals"

    @register(
        _spec(
            *(functionals, functionals, "func", (n_functionals,)),
            f"openSMILE {architecture.split()[0]} functionals over a sliding window",
            rate_hz=1 / HOP_S,
            dtype=WIDE,
            licence=SMILE_LICENCE,
        )
    )
    def build_functionals(specs: Sequence[BackboneSpec], file: Path | None) -> "torch.nn.Module":
        _need("opensmile", functionals)
        from abaw.extract.audio.smile import SmileFunctionals

        window_s = float(specs[0].option("window_s", None) or WINDOW_S)
        return SmileFunctionals(family, window_s, 1 / specs[0].rate_hz)


_register_smile("compare", "ComParE_2016 low-level descriptors and their deltas", COMPARE_NAMES, 6373)
_register_smile("egemaps", "eGeMAPSv02 low-level descriptors", EGEMAPS_NAMES, 88)


def fit_wav2vec2(specs: Sequence[BackboneSpec], state: "State") -> "tuple[Sequence[BackboneSpec], State]":
    """Old names of the weight norm, and what was trained on top, in any of transformers' checkpoints."""
    return specs, clean_keys(state)[0]


WAV2VEC2 = _spec(
    *("wav2vec2", "wav2vec2", "last", (768,), "wav2vec 2.0 base, the last hidden states"),
    weights="file",
    rate_hz=50.0,
    parameters=94_371_712,
    licence="Apache-2.0 (wav2vec2-base-960h)",
)


@register(WAV2VEC2, fit=fit_wav2vec2)
def _build_wav2vec2(specs: Sequence[BackboneSpec], file: Path | None) -> "torch.nn.Module | Built":
    import torch

    if file is None and torch.get_default_device().type == "meta" and not _has("transformers"):
        return torch.nn.Module()  # asked which layout it has: without the extra, none that could be recognised
    _need("transformers", specs[0].name)
    from abaw.extract.audio.wav2vec2 import Wav2Vec2
    from abaw.extract.audio.wav2vec2_weights import load_wav2vec2

    outputs = [spec.output for spec in specs]
    if file is None:
        network = Wav2Vec2(outputs)
        if torch.get_default_device().type != "meta":  # a layout has the names of the checkpoint
            network.fix_statistics()
        return network
    network, sha256, notes = load_wav2vec2(outputs, file)
    network.fix_statistics()
    width, model = int(network.model.config.hidden_size), network.model.config.model_type
    kind = model if model != specs[0].family else None
    made = [replace(spec, shape=(width,), parameters=_n_parameters(network)).with_options(model=kind) for spec in specs]
    return Built(network, made, notes, sha256)


def _n_parameters(network: "torch.nn.Module") -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _has(package: str) -> bool:
    from importlib.util import find_spec

    return find_spec(package) is not None


def _need(package: str, name: str) -> None:
    if not _has(package):
        raise UsageError(
            f"Backbone {name} needs the package {package}. Install it with: pip install '.[audio]' in abaw's folder."
        )


def _vggish_hop(name: str, family: str, hop: str) -> BackboneSpec:
    from abaw.extract.backbone import get_spec

    hop_s = float(hop)
    if hop_s < 0.01 or abs(hop_s * 100 - round(hop_s * 100)) > 1e-6:
        raise UsageError(
            f"The hop of {family} is a multiple of 0.01 s, found {hop} s. Its default is {VGGISH_HOP_S} s."
        )
    spec = replace(get_spec(family), name=name, rate_hz=1 / hop_s)
    return spec.with_options(hop_s=hop_s if hop_s != VGGISH_HOP_S else None)


def _functionals_window(name: str, family: str, window: str, hop: str) -> BackboneSpec:
    from abaw.extract.backbone import get_spec

    window_s, hop_s = float(window), float(hop)
    if window_s < 0.1 or hop_s < 0.01:
        raise UsageError(f"{name} wants a window of 0.1 s or more and a hop of 0.01 s or more.")
    return replace(get_spec(family), name=name, rate_hz=1 / hop_s).with_options(
        window_s=window_s if window_s != WINDOW_S else None, hop_s=hop_s if hop_s != HOP_S else None
    )


def _wav2vec2_layer(name: str, layer: str) -> BackboneSpec:
    if int(layer) > WAV2VEC2_LAYERS:
        raise UsageError(f"wav2vec2 has no layer {layer}: base has layer0 (what goes into the first) to layer12.")
    architecture = f"wav2vec 2.0 base, hidden states of layer {int(layer)}"
    return replace(WAV2VEC2, name=name, output=f"layer{int(layer)}", architecture=architecture)


_NUMBER = r"(\d+(?:\.\d+)?)s"
PATTERNS: tuple[tuple[str, Callable[..., BackboneSpec]], ...] = (
    (rf"(vggish|vggish-relu|vggish-pca)-{_NUMBER}", _vggish_hop),
    (rf"(compare-functionals|egemaps-functionals)-{_NUMBER}-{_NUMBER}", _functionals_window),
    (r"wav2vec2-layer(\d+)", _wav2vec2_layer),
)


def spec_with_options(name: str) -> BackboneSpec | None:
    """The spec of a name that carries options; None if it is no such name.

    Raises:
        UsageError: an option has an impossible value.
    """
    for pattern, make in PATTERNS:
        found = re.fullmatch(pattern, name)
        if found:
            return make(name, *found.groups())
    return None
