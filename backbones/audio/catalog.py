"""The audio backbones by name: specs, and builders that load torch and the packages of the extra when they are called.

Some names have options: `vggish-0.96s` (hop), `egemaps-functionals-4s-1s` (window and hop). `catalog_speech` has the
networks of transformers.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from abaw.backbones.audio import catalog_speech
from abaw.backbones.audio.audio_specs import SECONDS, audio_spec, check_hop, need_package
from abaw.backbones.audio.descriptors import COMPARE_NAMES, EGEMAPS_NAMES, EGEMAPS_V01A_NAMES
from abaw.backbones.registry import Built, Family
from abaw.backbones.spec import BackboneSpec
from abaw.core.errors import UsageError

if TYPE_CHECKING:
    import torch

    State = dict[str, torch.Tensor]

SMILE_LICENCE = "audEERING Research License (openSMILE): not for commercial use"
VGGISH_HOP_S = 0.24
WINDOW_S, HOP_S = 4.0, 1.0  # of functionals
WIDE = "float32"  # descriptors of openSMILE exceed float16


SPECTROGRAM = audio_spec(
    *("spectrogram", "spectrogram", "spectrogram", (1, 128, 128)),
    "log-mel: 128 HTK bands 20-8000 Hz, 128 steps of 10 ms (25 ms Hann, magnitudes, log(x + 0.01)) around the frame",
)


def _build_spectrogram(specs: Sequence[BackboneSpec], file: Path | None) -> "torch.nn.Module":
    from abaw.backbones.audio.spectrogram import Spectrogram

    return Spectrogram()


def _vggish_spec(name: str, output: str, description: str) -> BackboneSpec:
    return audio_spec(
        *(name, "vggish", output, (128,), f"VGGish, {description}"),
        weights="file",
        rate_hz=1 / VGGISH_HOP_S,
        parameters=72_141_184,
        licence="Apache-2.0 (Google's VGGish, torchvggish); trained on YouTube-8M",
    )


def fit_vggish(specs: Sequence[BackboneSpec], state: "State") -> "tuple[Sequence[BackboneSpec], State]":
    """Drop the projection of `vggish-pca`, which is read separately, and translate the names of torchaudio."""
    fitted = {key: value for key, value in state.items() if not key.startswith(("pproc.", "pca_"))}
    renamed = (("features_network.", "features."), ("embedding_network.", "embeddings."))
    for old, new in renamed:
        fitted = {new + key.removeprefix(old) if key.startswith(old) else key: value for key, value in fitted.items()}
    return specs, fitted


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
    sha256 = built.weights_sha256
    return replace(built, weights_sha256=f"{sha256}+{pca_sha256}" if pca_sha256 else sha256)


VGGISH = (
    _vggish_spec("vggish", "embedding", "before the last ReLU"),
    _vggish_spec("vggish-relu", "relu", "after the last ReLU"),
    _vggish_spec("vggish-pca", "pca", "projected, clipped and quantised to 0..255 as AudioSet's features"),
)


def _resolve_vggish(name: str) -> BackboneSpec | None:
    """`vggish-0.96s`: another hop."""
    match = re.fullmatch(rf"(.+)-{SECONDS}", name)
    spec = next((spec for spec in VGGISH if match and spec.name == match[1]), None)
    if match is None or spec is None:
        return None
    hop_s = check_hop(spec.name, match[2], VGGISH_HOP_S)
    return replace(spec, name=name, rate_hz=1 / hop_s).with_options(hop_s=hop_s if hop_s != VGGISH_HOP_S else None)


def _descriptors(name: str, architecture: str, descriptors: tuple[str, ...]) -> Family:
    spec = audio_spec(
        *(name, name, "lld", (len(descriptors),), f"openSMILE {architecture}, every 10 ms"),
        classes=descriptors,
        rate_hz=100.0,
        dtype=WIDE,
        licence=SMILE_LICENCE,
    )

    def build(specs: Sequence[BackboneSpec], file: Path | None) -> "torch.nn.Module":
        need_package("opensmile", name)
        from abaw.backbones.audio.smile import SmileDescriptors

        return SmileDescriptors(name)

    return Family(name, (spec,), build)


def _functionals(feature_set: str, architecture: str, n_functionals: int) -> Family:
    name = f"{feature_set}-functionals"
    usual = audio_spec(
        *(name, name, "func", (n_functionals,), f"openSMILE {architecture} functionals over a sliding window"),
        rate_hz=1 / HOP_S,
        dtype=WIDE,
        licence=SMILE_LICENCE,
    )

    def build(specs: Sequence[BackboneSpec], file: Path | None) -> "torch.nn.Module":
        need_package("opensmile", name)
        from abaw.backbones.audio.smile import SmileFunctionals

        window_s = float(specs[0].option("window_s", None) or WINDOW_S)
        return SmileFunctionals(feature_set, window_s, 1 / specs[0].rate_hz)

    def resolve(requested: str) -> BackboneSpec | None:
        """`egemaps-functionals-4s-1s`: another window and hop."""
        match = re.fullmatch(rf"{name}-{SECONDS}-{SECONDS}", requested)
        if match is None:
            return None
        window_s, hop_s = float(match[1]), float(match[2])
        if window_s < 0.1 or hop_s < 0.01:
            raise UsageError(f"{requested} needs a window of at least 0.1 s and a hop of at least 0.01 s.")
        return replace(usual, name=requested, rate_hz=1 / hop_s).with_options(
            window_s=window_s if window_s != WINDOW_S else None, hop_s=hop_s if hop_s != HOP_S else None
        )

    return Family(name, (usual,), build, resolve=resolve)


FAMILIES = (
    *catalog_speech.FAMILIES,
    Family("spectrogram", (SPECTROGRAM,), _build_spectrogram),
    Family("vggish", VGGISH, _build_vggish, fit_vggish, resolve=_resolve_vggish),
    _descriptors("compare", "ComParE_2016 low-level descriptors and their deltas", COMPARE_NAMES),
    _functionals("compare", "ComParE_2016", 6373),
    _descriptors("egemaps", "eGeMAPSv02 low-level descriptors", EGEMAPS_NAMES),
    _functionals("egemaps", "eGeMAPSv02", 88),
    _descriptors("egemaps-v01a", "eGeMAPSv01a low-level descriptors", EGEMAPS_V01A_NAMES),
    _functionals("egemaps-v01a", "eGeMAPSv01a", 88),
)
