"""Log-mel spectrograms of VGGish (Hershey et al., 2017; `mel_features.py` of TensorFlow's models).

Magnitudes, not powers, of a short-time Fourier transform under a periodic Hann window; triangular bands on the HTK
mel scale, 1127 ln(1 + f / 700 Hz), which are triangles over mels; log(x + 0.01).
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from abaw.media.waveform import RATE_HZ

LOG_OFFSET = 0.01


@dataclass(frozen=True)
class MelSettings:
    """A log-mel spectrogram; the defaults are VGGish's.

    Attributes:
        n_mels: bands.
        low_hz, high_hz: where the lowest band begins and the highest ends.
        window, hop: in samples, 25 ms and 10 ms.
        n_fft: length of the Fourier transform; longer than the window, it interpolates between frequencies.
    """

    n_mels: int = 64
    low_hz: float = 125.0
    high_hz: float = 7500.0
    window: int = 400
    hop: int = 160
    n_fft: int = 512

    def n_steps(self, n_samples: int) -> int:
        """Whole windows in a sound."""
        return max(0, (n_samples - self.window) // self.hop + 1)

    def n_samples(self, n_steps: int) -> int:
        """Samples under a number of windows."""
        return (n_steps - 1) * self.hop + self.window


class LogMel(nn.Module):
    """(samples,) -> (steps, mels)."""

    window: Tensor
    filters: Tensor

    def __init__(self, settings: MelSettings) -> None:
        super().__init__()
        self.settings = settings
        self.register_buffer("window", torch.hann_window(settings.window, periodic=True), persistent=False)
        filters = torch.from_numpy(mel_filters(settings).astype(np.float32))
        self.register_buffer("filters", filters, persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        """Log-mel steps of a sound."""
        settings = self.settings
        windows = samples.unfold(0, settings.window, settings.hop) * self.window
        return torch.log(torch.fft.rfft(windows, n=settings.n_fft).abs() @ self.filters + LOG_OFFSET)


def mel_filters(settings: MelSettings) -> NDArray[np.float64]:
    """(bins, mels) weights of the bins of a Fourier transform in each band; that of 0 Hz is 0."""
    bins = _mels(np.linspace(0, RATE_HZ / 2, settings.n_fft // 2 + 1))[:, None]
    edges = np.linspace(_mels(settings.low_hz), _mels(settings.high_hz), settings.n_mels + 2)
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    filters = np.maximum(0, np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)))
    filters[0] = 0
    return filters


def _mels(hertz: float | NDArray) -> NDArray:
    return 1127.0 * np.log1p(np.asarray(hertz) / 700.0)
