"""Log-mel spectrograms around each video frame, the input of the audio branch of EmotiW 2023 (Augusma et al.).

The branch is trained with the head and sees (1, 128, 128) per spectrogram frame; its authors' spectrograms are not
published with their parameters. Here: 128 mel bands from 20 to 8000 Hz, 128 steps of 10 ms (1.28 s) around the middle of
the video frame, silence beyond the ends of the sound.
"""

import numpy as np
from torch import Tensor

from abaw.backbones.audio.audio_encoder import AudioEncoder, Take, on_host, tensor_of
from abaw.backbones.audio.mel import LogMel, MelSettings
from abaw.media.frame_times import NS, Nanoseconds
from abaw.media.waveform import RATE_HZ, Waveform

N_STEPS = 128
# 128 bands are narrower than the bins of a 512-point transform: with 2048 points no band is empty
SETTINGS = MelSettings(n_mels=128, low_hz=20.0, high_hz=8000.0, n_fft=2048)
ROWS_AT_ONCE = 64


class Spectrogram(AudioEncoder):
    """A spectrogram for each row, its middle step within 5 ms of the middle of the video frame."""

    def __init__(self, settings: MelSettings = SETTINGS, n_steps: int = N_STEPS) -> None:
        super().__init__()
        self.mel, self.n_steps = LogMel(settings), n_steps

    def prepare(self, samples: Tensor) -> Tensor:
        """Samples on the device."""
        return samples.to(self.mel.window.device)

    def forward(self, samples: Tensor) -> dict[str, Tensor]:
        """All spectrograms of a sound, a step apart: (n, 1, mels, steps)."""
        return {"spectrogram": self.mel(samples).unfold(0, self.n_steps, 1)[:, None]}

    def encode(self, waveform: Waveform, middles_ns: Nanoseconds, take: Take) -> None:
        """One native frame for each row."""
        settings = self.mel.settings
        middles = middles_ns * (RATE_HZ / NS)
        # the first step of each row, in hops from the first sample
        first = np.rint((middles - settings.n_samples(self.n_steps) / 2) / settings.hop).astype(np.int64)
        for start in range(0, len(first), ROWS_AT_ONCE):
            rows = first[start : start + ROWS_AT_ONCE]
            begin, n_steps = int(rows[0]), int(rows[-1] - rows[0]) + self.n_steps
            begin_sample = begin * settings.hop
            samples = waveform.read(begin_sample, begin_sample + settings.n_samples(n_steps))
            windows = self.mel(tensor_of(samples, self.mel.window.device)).unfold(0, self.n_steps, 1)
            chosen = windows[(rows - begin).tolist()][:, None]
            take(middles_ns[start : start + ROWS_AT_ONCE], on_host({"spectrogram": chosen}))
