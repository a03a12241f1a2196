"""openSMILE's descriptors (Eyben et al., 2010): ComParE 2016 (Schuller et al.) and eGeMAPS v02, v01a (Eyben et al., 2016).

openSMILE runs over the whole sound, as its descriptors are smoothed and normalised along it. It is fed piece by piece
and its frames are handed on piece by piece, so memory does not grow with the sound.
"""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import opensmile
import torch
from numpy.typing import NDArray
from opensmile.core.config import config
from torch import Tensor

from abaw.backbones.audio.audio_encoder import AudioEncoder, Take
from abaw.media.frame_times import NS, Nanoseconds, sample_times
from abaw.media.waveform import MEMORY_SAMPLES, RATE_HZ, Waveform

SETS = {
    "compare": opensmile.FeatureSet.ComParE_2016,
    "egemaps": opensmile.FeatureSet.eGeMAPSv02,
    "egemaps-v01a": opensmile.FeatureSet.eGeMAPSv01a,
}
# Both levels in one pass; openSMILE joins frames with the same start, and drops deltas after the last of the others
LEVELS = {"compare": "lld;lld_de", "egemaps": "lld", "egemaps-v01a": "lld"}
FUNCTIONALS = "func"
RING_BUFFERS = "shared/BufferModeRbMulti.conf.inc"  # of 15 s; they do not wait for slow readers
# Energy and spectrum have frames of 20 ms; pitch has frames of 60 ms that begin at the same time.
HALF_FRAME_NS = NS // 100
FRAME_HOP_NS = NS // 100
RING_INPUT = Path(__file__).with_name("wave_input.conf")
MIN_SAMPLES = RATE_HZ // 10  # openSMILE gives nothing for less than 60 ms
FED_AHEAD_S = 20.0
FEED_SAMPLES = 10 * RATE_HZ
FRAMES_AT_ONCE = 1000


class Feeder(opensmile.Smile):
    """openSMILE over a waveform in pieces. One object serves several threads: each run has its own machine."""

    def run(self, waveform: Waveform, take: "_Frames") -> None:
        """Run over a sound; `take` gets each frame."""
        n_samples = max(len(waveform), MIN_SAMPLES)
        options = {**self._options(), "sampleRate": RATE_HZ, "nBits": 16}
        # openSMILE's own input keeps the whole sound, and is a quarter faster than a ring buffer
        own_input = f"{self.default_config_root}/{config.EXTERNAL_INPUT_CONFIG}"
        options["source"] = own_input if n_samples <= MEMORY_SAMPLES else str(RING_INPUT)
        if self.feature_level != FUNCTIONALS:  # else it keeps all frames for functionals, which are not needed
            options["bufferModeConf"] = f"{self.default_config_root}/{RING_BUFFERS}"
        machine = self._smile(options=options)
        fed = 0

        def feed(until: int) -> None:
            nonlocal fed
            while fed < min(until, n_samples):
                stop = min(fed + FEED_SAMPLES, n_samples)
                data = _int16(waveform.read(fed, stop)).tobytes()
                if not machine.external_audio_source_write_data(config.EXTERNAL_SOURCE_COMPONENT, data):
                    return  # no room: a later frame tries again
                fed = stop
                if fed == n_samples:
                    machine.external_audio_source_set_eoi(config.EXTERNAL_SOURCE_COMPONENT)

        def on_frame(data: NDArray, meta: Any) -> None:
            start_s = meta.time
            take.add(data)
            if fed < n_samples and fed - start_s * RATE_HZ < FED_AHEAD_S * RATE_HZ:
                feed(fed + FEED_SAMPLES)

        try:
            machine.external_sink_set_callback_ex(config.EXTERNAL_OUTPUT_COMPONENT, on_frame)
            feed(n_samples if self.feature_level == FUNCTIONALS else round(2 * FED_AHEAD_S * RATE_HZ))
            machine.run()
        finally:
            machine.free()
        take.finish()


def make_feeder(feature_set: str, level: str) -> Feeder:
    """openSMILE for a set and a level, without its warning that a set is not the newest."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Feature set .* is deprecated", UserWarning)
        return Feeder(SETS[feature_set], level)


class _Frames:
    """Collects single frames and passes them on in blocks."""

    def __init__(self, output: str, take: Take) -> None:
        self._output, self._take = output, take
        self._values: list[NDArray] = []
        self._n_taken = 0

    def add(self, values: NDArray) -> None:
        self._values.append(values.copy())  # openSMILE reuses its memory
        if len(self._values) >= FRAMES_AT_ONCE:
            self.finish()

    def finish(self) -> None:
        if self._values:
            # counted, because openSMILE gives the last frame the time of the one before
            starts = np.arange(self._n_taken, self._n_taken + len(self._values)) * FRAME_HOP_NS
            # some descriptors are NaN where there is nothing to measure
            values = np.nan_to_num(np.stack(self._values).reshape(len(starts), -1), nan=0.0)
            self._take(starts + HALF_FRAME_NS, {self._output: values})
            self._n_taken += len(starts)
            self._values = []


class SmileDescriptors(AudioEncoder):
    """Low-level descriptors every 10 ms: `lld`, (frames, 130) of compare, (frames, 25) or (frames, 23) of egemaps."""

    on_device = False

    def __init__(self, feature_set: str) -> None:
        super().__init__()
        self._feeder = make_feeder(feature_set, LEVELS[feature_set])

    def prepare(self, samples: Tensor) -> Tensor:
        """The samples as they are."""
        return samples

    def forward(self, samples: Tensor) -> dict[str, Tensor]:
        """Descriptors of a sound."""
        parts: list[NDArray] = []
        waveform = Waveform.of(samples.cpu().numpy())
        self.encode(waveform, np.zeros(0, dtype=np.int64), lambda _, outputs: parts.append(outputs["lld"]))
        return {"lld": torch.from_numpy(np.concatenate(parts))}

    def encode(self, waveform: Waveform, middles_ns: Nanoseconds, take: Take) -> None:
        """A native frame every 10 ms."""
        self._feeder.run(waveform, _Frames("lld", take))


class SmileFunctionals(AudioEncoder):
    """Statistics over a sliding window: `func`, (windows, 6373) of compare, (windows, 88) of egemaps.

    Args:
        feature_set: compare, egemaps or egemaps-v01a.
        window_s, hop_s: length of the window, and its step.
    """

    on_device = False

    def __init__(self, feature_set: str, window_s: float, hop_s: float) -> None:
        super().__init__()
        self.window, self.hop = round(window_s * RATE_HZ), round(hop_s * RATE_HZ)
        self._feeder = make_feeder(feature_set, FUNCTIONALS)

    def prepare(self, samples: Tensor) -> Tensor:
        """The samples as they are."""
        return samples

    def forward(self, samples: Tensor) -> dict[str, Tensor]:
        """Functionals over one window, which is the whole sound: (1, functionals)."""
        return {"func": torch.from_numpy(self._of(Waveform.of(samples.cpu().numpy())))}

    def encode(self, waveform: Waveform, middles_ns: Nanoseconds, take: Take) -> None:
        """A native frame every hop; a shorter sound gives one window."""
        n_windows = max(1, (len(waveform) - self.window) // self.hop + 1)
        length = min(self.window, len(waveform))
        for number in range(n_windows):
            start = number * self.hop
            values = self._of(Waveform.of(waveform.read(start, start + length)))
            take(sample_times(np.array([start + length / 2])), {"func": values})

    def _of(self, waveform: Waveform) -> NDArray:
        parts: list[NDArray] = []
        self._feeder.run(waveform, _Frames("func", lambda _, outputs: parts.append(outputs["func"])))
        return parts[0][:1]


def _int16(samples: NDArray[np.float32]) -> NDArray[np.int16]:
    """Samples for openSMILE; full scale is clipped to 32767, where a plain conversion would overflow."""
    return np.clip(samples * 32768.0, -32768, 32767).astype(np.int16)
