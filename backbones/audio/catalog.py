"""The audio backbones by name: specs, and builders that load torch and the packages of the extra when they are called.

Some names carry options: `vggish-0.96s` (hop), `egemaps-functionals-4s-1s` (window and hop). `catalog_speech` has the
networks of transformers.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from abaw.backbones.audio.catalog_speech import WITH_LAYERS, ast_hop_spec, layer_spec, mean_spec
from abaw.backbones.audio.descriptors import COMPARE_NAMES, EGEMAPS_NAMES, EGEMAPS_V01A_NAMES
from abaw.backbones.audio.specs import audio_spec, need_package
from abaw.backbones.backbone import Built, register
from abaw.backbones.spec import BackboneSpec
from abaw.core.errors import UsageError

if TYPE_CHECKING:
    import torch

    State = dict[str, torch.Tensor]

SMILE_LICENCE = "audEERING Research License (openSMILE): not for commercial use"
VGGISH_HOP_S = 0.24
WINDOW_S, HOP_S = 4.0, 1.0  # of functionals
WIDE = "float32"  # descriptors of openSMILE exceed float16


@register(
    audio_spec(
        *("spectrogram", "spectrogram", "spectrogram", (1, 128, 128)),
        "log-mel: 128 HTK bands 20-8000 Hz, 128 steps of 10 ms (25 ms Hann, magnitudes, log(x + 0.01)) around the frame",
    )
)
def _build_spectrogram(specs: Sequence[BackboneSpec], file: Path | None) -> "torch.nn.Module":
    from abaw.backbones.audio.spectrogram import Spectrogram

    return Spectrogram()


def _vggish_spec(name: str, output: str, what: str) -> BackboneSpec:
    return audio_spec(
        *(name, "vggish", output, (128,), f"VGGish, {what}"),
        weights="file",
        rate_hz=1 / VGGISH_HOP_S,
        parameters=72_141_184,
        licence="Apache-2.0 (Google's VGGish, torchvggish); trained on YouTube-8M",
    )


def fit_vggish(specs: Sequence[BackboneSpec], state: "State") -> "tuple[Sequence[BackboneSpec], State]":
    """Checkpoints may hold the projection of `vggish-pca` beside the network; it is read apart. torchaudio has other names."""
    own = {key: value for key, value in state.items() if not key.startswith(("pproc.", "pca_"))}
    renamed = (("features_network.", "features."), ("embedding_network.", "embeddings."))
    for old, new in renamed:
        own = {new + key.removeprefix(old) if key.startswith(old) else key: value for key, value in own.items()}
    return specs, own


@register(
    _vggish_spec("vggish", "embedding", "before the last ReLU"),
    _vggish_spec("vggish-relu", "relu", "after the last ReLU"),
    _vggish_spec("vggish-pca", "pca", "projected, clipped and quantised to 0..255 as AudioSet's features"),
    fit=fit_vggish,
)
def _build_vggish(specs: Sequence[BackboneSpec], file: Path | None) -> "torch.nn.Module | Built":
    from abaw.backbones.audio.vggish import Vggish
    from abaw.backbones.audio.vggish_pca import load_pca
    from abaw.backbones.weights import load_network

    outputs = [spec.output for spec in specs]
    if file is None:
        return Vggish(outputs, hop_steps=round(100 / specs[0].rate_hz))
    built = load_network(_build_vggish, specs, file, fit_vggish)
    if "pca" not in outputs:
        return built
    assert isinstance(built.network, Vggish)
    pca_sha256 = load_pca(built.network, file)
    own = built.weights_sha256
    return replace(built, weights_sha256=f"{own}+{pca_sha256}" if pca_sha256 else own)


def _register_smile(family: str, architecture: str, names: tuple[str, ...], n_functionals: int) -> None:
    @register(
        audio_spec(
            *(family, family, "lld", (len(names),), f"openSMILE {architecture}, every 10 ms"),
            classes=names,
            rate_hz=100.0,
            dtype=WIDE,
            licence=SMILE_LICENCE,
        )
    )
    def build_descriptors(specs: Sequence[BackboneSpec], file: Path | None) -> "torch.nn.Module":
        need_package("opensmile", family)
        from abaw.backbones.audio.smile import SmileDescriptors

        return SmileDescriptors(family)

    functionals = f"{family}-functionals"

    @register(
        audio_spec(
            *(functionals, functionals, "func", (n_functionals,)),
            f"openSMILE {architecture.split()[0]} functionals over a sliding window",
            rate_hz=1 / HOP_S,
            dtype=WIDE,
            licence=SMILE_LICENCE,
        )
    )
    def build_functionals(specs: Sequence[BackboneSpec], file: Path | None) -> "torch.nn.Module":
        need_package("opensmile", functionals)
        from abaw.backbones.audio.smile import SmileFunctionals

        window_s = float(specs[0].option("window_s", None) or WINDOW_S)
        return SmileFunctionals(family, window_s, 1 / specs[0].rate_hz)


_register_smile("compare", "ComParE_2016 low-level descriptors and their deltas", COMPARE_NAMES, 6373)
_register_smile("egemaps", "eGeMAPSv02 low-level descriptors", EGEMAPS_NAMES, 88)
_register_smile("egemaps-v01a", "eGeMAPSv01a low-level descriptors", EGEMAPS_V01A_NAMES, 88)


def _vggish_hop(name: str, family: str, hop: str) -> BackboneSpec:
    from abaw.backbones.backbone import get_spec

    hop_s = float(hop)
    if hop_s < 0.01 or abs(hop_s * 100 - round(hop_s * 100)) > 1e-6:
        raise UsageError(
            f"The hop of {family} is a multiple of 0.01 s, found {hop} s. Its default is {VGGISH_HOP_S} s."
        )
    spec = replace(get_spec(family), name=name, rate_hz=1 / hop_s)
    return spec.with_options(hop_s=hop_s if hop_s != VGGISH_HOP_S else None)


def _functionals_window(name: str, family: str, window: str, hop: str) -> BackboneSpec:
    from abaw.backbones.backbone import get_spec

    window_s, hop_s = float(window), float(hop)
    if window_s < 0.1 or hop_s < 0.01:
        raise UsageError(f"{name} wants a window of 0.1 s or more and a hop of 0.01 s or more.")
    return replace(get_spec(family), name=name, rate_hz=1 / hop_s).with_options(
        window_s=window_s if window_s != WINDOW_S else None, hop_s=hop_s if hop_s != HOP_S else None
    )


_NUMBER = r"(\d+(?:\.\d+)?)s"
PATTERNS: tuple[tuple[str, Callable[..., BackboneSpec]], ...] = (
    (rf"(vggish|vggish-relu|vggish-pca)-{_NUMBER}", _vggish_hop),
    (rf"((?:compare|egemaps|egemaps-v01a)-functionals)-{_NUMBER}-{_NUMBER}", _functionals_window),
    (rf"({'|'.join(WITH_LAYERS)})-layer(\d+)", layer_spec),
    (rf"({'|'.join(WITH_LAYERS)})-last(\d+)", mean_spec),
    (rf"ast-{_NUMBER}", ast_hop_spec),
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
