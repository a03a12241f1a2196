"""Sounds for tests of audio encoders, and what an encoder makes of them."""

import numpy as np
import torch

from abaw.backbones.extractor import Backbone
from abaw.media.waveform import RATE_HZ, Waveform


def make_voice(duration_s: float, seed: int = 0) -> np.ndarray:
    """Noise and a gliding tone that grow and fade: loud and quiet parts, as in speech."""
    rng = np.random.default_rng(seed)
    times = np.arange(round(duration_s * RATE_HZ)) / RATE_HZ
    tone = np.sin(2 * np.pi * (150 * times + 20 * np.sin(times)))
    envelope = 0.02 + np.sin(times / 3) ** 4
    return (0.3 * envelope * (tone + 0.3 * rng.standard_normal(len(times)))).astype(np.float32)


def encode(backbone: Backbone, samples: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Centres in seconds and native frames of a whole sound; rows are 25 a second."""
    centres, parts = [], []

    def take(centres_ns, outputs):
        centres.append(centres_ns)
        parts.append(outputs)

    middles = np.arange(20_000_000, int(len(samples) / RATE_HZ * 1e9), 40_000_000)
    with torch.inference_mode():
        backbone.encoder.encode(Waveform.of(samples), middles, take)
    outputs = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return np.concatenate(centres) / 1e9, outputs


def relative_error(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))
