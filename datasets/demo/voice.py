"""The sound of the demo dataset and the film file that carries it.

A voice is a harmonic source, shaped by formants that change with every syllable. Arousal raises its pitch,
its loudness and the pace of the syllables.
"""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import numpy as np
from numpy.typing import NDArray

from abaw.core.output_stream import OutputStream

SAMPLE_RATE_HZ = 16000
CONTROL_RATE_HZ = 200  # rate at which pitch, formants and loudness are computed
N_HARMONICS = 18
LOUDNESS_DB = 13.0  # what full arousal adds to the level of a voice, and what -1 takes from it
PITCH_OCTAVES = 0.55  # the same for pitch
NOISE_DB = -62.0  # level of the noise of the room
CHUNK_SAMPLES = 1024
# same pictures, same bytes: one thread, and not mbtree, for which x264 reads memory that it has not written in narrow pictures
FILM_OPTIONS = {"preset": "veryfast", "crf": "24", "threads": "1", "mbtree": "0"}

# First and second formant of some vowels and their level, in Hz and as a factor.
VOWELS = np.array([(730, 1090), (530, 1840), (390, 1990), (570, 840), (440, 1020), (660, 1720)], float)


def speak(rng: np.random.Generator, arousal: NDArray, rate_hz: float) -> NDArray:
    """Synthesise a voice.

    Args:
        rng: source of randomness; it also draws the pitch and the vocal tract of the speaker.
        arousal: (frames,) in [-1, 1].
        rate_hz: frames per second.

    Returns:
        (samples,) float32 within [-1, 1] at `SAMPLE_RATE_HZ`, as long as the frames.
    """
    n_samples = round(len(arousal) / rate_hz * SAMPLE_RATE_HZ)
    n_controls = round(len(arousal) / rate_hz * CONTROL_RATE_HZ) + 1
    controls_s = np.arange(n_controls) / CONTROL_RATE_HZ
    course = np.interp(controls_s, (np.arange(len(arousal)) + 0.5) / rate_hz, arousal)
    pitch_hz = rng.uniform(105, 210) * 2 ** (PITCH_OCTAVES * course + 0.02 * np.sin(33 * controls_s))
    loudness, vowels = _syllables(rng, course)
    level = 10 ** ((LOUDNESS_DB * course - 27) / 20) * loudness
    gains = level[:, None] * _harmonic_gains(pitch_hz, vowels * rng.uniform(0.9, 1.15))
    times = np.arange(n_samples) * (CONTROL_RATE_HZ / SAMPLE_RATE_HZ)
    voice = _harmonics(times, pitch_hz, gains)
    noise = rng.standard_normal(n_samples, np.float32) * 10 ** (NOISE_DB / 20)
    return np.clip(voice + noise, -1, 1).astype(np.float32)


def _syllables(rng: np.random.Generator, arousal: NDArray) -> tuple[NDArray, NDArray]:
    """Rhythm of the syllables: (controls,) factors of loudness and (controls, 2) formants in Hz."""
    pace_hz = 4 * 2 ** (0.4 * arousal)
    position = np.cumsum(pace_hz) / CONTROL_RATE_HZ
    index = position.astype(int)
    n_syllables = int(index[-1]) + 2
    vowel = rng.integers(len(VOWELS), size=n_syllables)
    stress = rng.uniform(0.6, 1.0, n_syllables)
    stress[rng.random(n_syllables) < 0.08] = 0.15  # a short pause between two words
    envelope = 0.25 + 0.75 * np.sin(np.pi * (position - index)) ** 0.7
    glide = np.clip((position - index - 0.7) / 0.3, 0, 1)[:, None]
    formants = VOWELS[vowel[index]] * (1 - glide) + VOWELS[vowel[index + 1]] * glide
    loudness = stress[index] * (1 - glide[:, 0]) + stress[index + 1] * glide[:, 0]
    return envelope * loudness, formants


def _harmonic_gains(pitch_hz: NDArray, formants_hz: NDArray) -> NDArray:
    """(controls, harmonics) amplitudes: a falling source through two moving formants and a fixed third."""
    order = np.arange(1, N_HARMONICS + 1)
    frequency = pitch_hz[:, None] * order
    gains = np.full_like(frequency, 0.05)
    for centre, width, height in (
        (formants_hz[:, :1], 110, 1.0),
        (formants_hz[:, 1:], 160, 0.7),
        (np.full((1, 1), 2600.0), 240, 0.4),
    ):
        gains += height / (1 + ((frequency - centre) / width) ** 2)
    gains = gains / np.sqrt((gains**2 / order).sum(1, keepdims=True))  # all vowels are equally loud
    return gains / np.sqrt(order)


def _harmonics(times: NDArray, pitch_hz: NDArray, gains: NDArray) -> NDArray:
    """(samples,) sum of the harmonics at `times`, which count controls."""
    low = np.minimum(times.astype(int), len(pitch_hz) - 2)
    part = (times - low).astype(np.float32)
    pitch = pitch_hz[low] + (pitch_hz[low + 1] - pitch_hz[low]) * part
    phase = np.cumsum(pitch) * (2 * np.pi / SAMPLE_RATE_HZ)
    twice_cosine = (2 * np.cos(phase)).astype(np.float32)
    previous, current = np.zeros_like(twice_cosine), np.sin(phase).astype(np.float32)
    total = np.zeros_like(current)
    table = gains.astype(np.float32)
    for harmonic in range(gains.shape[1]):
        start = table[low, harmonic]
        total += (start + (table[low + 1, harmonic] - start) * part) * current
        # sin((k + 1) x) = 2 cos(x) sin(k x) - sin((k - 1) x) is much cheaper than a sine per harmonic.
        previous, current = current, twice_cosine * current - previous
    return total


class FilmWriter:
    """Write one MP4 file: H.264 pictures and AAC sound, interleaved.

    Use it as a context manager; the file is complete when the block ends.
    """

    def __init__(self, path: Path, width: int, height: int, rate_hz: int, sound: Sequence[NDArray]) -> None:
        """Open the file.

        Args:
            path: file to write.
            width, height: size of the picture in pixels, even.
            rate_hz: frames per second.
            sound: one or two channels, (samples,) float32 within [-1, 1] at `SAMPLE_RATE_HZ`.
        """
        self._stream = OutputStream(path)
        self._container = av.open(self._stream, "w", format="mp4")
        self._video = self._container.add_stream("libx264", rate=Fraction(rate_hz), options=FILM_OPTIONS)
        self._video.width, self._video.height, self._video.pix_fmt = width, height, "yuv420p"
        self._layout = "mono" if len(sound) == 1 else "stereo"
        self._audio = self._container.add_stream("aac", rate=SAMPLE_RATE_HZ, layout=self._layout)
        self._sound = np.ascontiguousarray(np.stack(sound), np.float32)
        self._rate_hz = rate_hz
        self._n_frames = 0
        self._n_samples = 0

    def __enter__(self) -> Self:
        return self

    def write(self, picture: NDArray) -> None:
        """Append one frame and the sound up to its end.

        Args:
            picture: (height, width, 3) uint8 RGB.
        """
        self._stream.check()
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts, frame.time_base = self._n_frames, Fraction(1, self._rate_hz)
        self._container.mux(self._video.encode(frame))
        self._n_frames += 1
        self._write_sound(self._n_frames * SAMPLE_RATE_HZ // self._rate_hz)

    def _write_sound(self, end: int, flush: bool = False) -> None:
        """Append the sound up to sample `end`, in whole chunks; `flush` also appends the incomplete last one."""
        end = min(end, self._sound.shape[1])
        while self._n_samples + CHUNK_SAMPLES <= end or (flush and self._n_samples < end):
            part = self._sound[:, self._n_samples : min(end, self._n_samples + CHUNK_SAMPLES)]
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(part), "fltp", self._layout)
            frame.sample_rate, frame.pts = SAMPLE_RATE_HZ, self._n_samples
            frame.time_base = Fraction(1, SAMPLE_RATE_HZ)
            self._container.mux(self._audio.encode(frame))
            self._n_samples += part.shape[1]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._stream:
            try:
                if kind is None:
                    self._write_sound(self._sound.shape[1], flush=True)
                    self._container.mux(self._video.encode(None))
                    self._container.mux(self._audio.encode(None))
            finally:
                self._container.close()
