"""The sound of a video or sound file as mono 16 kHz, with the time at which it begins.

Decoding and resampling are FFmpeg's (through PyAV). The downmix is FFmpeg's too, with its weights scaled to a sum of
one: without that, its float output of full-scale stereo reaches 1.41.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from abaw.datasets.videos import open_media
from abaw.errors import DataError
from abaw.extract.audio.waveform import RATE_HZ, Waveform

GAP_S = 0.1  # timestamps of containers are rough; only a longer hole is filled with silence
CUT_S = 0.5  # a file that ends so much before the duration it states is cut off
UNKNOWN_SIZE = 0xFFFFFF00  # in the header of a wav that was written into a pipe
# one channel as float, the weights of the channels adding up to one at most
RESAMPLE = f"sample_rate={RATE_HZ}:out_chlayout=mono:out_sample_fmt=flt:rematrix_maxval=1"


@dataclass
class Sound:
    """What is heard in a file.

    Attributes:
        waveform: mono, 16 kHz.
        start_s: time of its first sample, on the clock of the file.
        notes: a sentence for each thing that was wrong with the file.
    """

    waveform: Waveform
    start_s: float = 0.0
    notes: list[str] = field(default_factory=list)


def load_sound(file: Path) -> Sound | None:
    """Decode the first sound track of a file; None if it has none, or one without a single sample.

    A damaged track gives what can be decoded of it, with a note. Holes between its packets are filled with silence,
    so that what follows stays where it belongs.

    Raises:
        DataError: the file cannot be opened at all.
    """
    try:
        with open_media(file) as container:
            if not container.streams.audio:
                return None
            return _Decoder(file, container).decode()
    except (av.FFmpegError, OSError) as error:
        raise DataError(f"{file} cannot be opened ({error}). Replace it, or delete it to go on without.") from error


class _Decoder:
    """Decodes one file. Output position and time of the input are compared packet by packet."""

    def __init__(self, file: Path, container: av.container.InputContainer) -> None:
        self._file, self._container = file, container
        self._stream = container.streams.audio[0]
        self._sound = Sound(Waveform())
        self._resampler: _Resampler | None = None
        self._end_s: float | None = None  # of the last input frame
        self._n_broken = self._n_not_finite = 0

    def decode(self) -> Sound | None:
        for frame in self._frames():
            self._take(frame)
        self._drain()
        if not len(self._sound.waveform):
            return None
        self._add_notes()
        return self._sound

    def _frames(self) -> Iterator[av.AudioFrame]:
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    return
                frames = packet.decode()
            except av.error.EOFError:
                return
            except av.FFmpegError:  # one damaged packet; a container that cannot go on raises the same, then ends
                self._n_broken += 1
                if self._n_broken > 1000:
                    return
                continue
            yield from (frame for frame in frames if frame.samples)

    def _take(self, frame: av.AudioFrame) -> None:
        time_s = float(frame.pts * frame.time_base) if frame.pts is not None and frame.time_base else None
        if self._end_s is None:
            self._sound.start_s = self._end_s = time_s or 0.0
        if time_s is not None and time_s - self._end_s > GAP_S and time_s < self._limit_s():
            self._drain()
            position = round((time_s - self._sound.start_s) * RATE_HZ)
            self._sound.waveform.append(np.zeros(max(0, position - len(self._sound.waveform)), dtype=np.float32))
            self._end_s = time_s
        if self._resampler is None or not self._resampler.fits(frame):
            self._drain()
            self._resampler = _Resampler(frame)
        for samples in self._resampler.push(frame):
            self._append(samples)
        self._end_s += frame.samples / frame.sample_rate

    def _limit_s(self) -> float:
        """No sound can be after this: a timestamp that says so is wrong."""
        if self._container.duration is None:
            return math.inf
        start = (self._container.start_time or 0) / av.time_base
        return start + self._container.duration / av.time_base + CUT_S

    def _drain(self) -> None:
        if self._resampler is not None:
            for samples in self._resampler.push(None):
                self._append(samples)
        self._resampler = None

    def _append(self, samples: NDArray[np.float32]) -> None:
        finite = np.isfinite(samples)
        if not finite.all():
            self._n_not_finite += int((~finite).sum())
            samples = np.where(finite, samples, np.float32(0))
        self._sound.waveform.append(samples)

    def _add_notes(self) -> None:
        notes, found_s = self._sound.notes, self._sound.waveform.duration_s
        if self._n_broken:
            notes.append(f"{self._n_broken} packets of the sound in {self._file.name} could not be decoded")
        if self._n_not_finite:
            notes.append(f"{self._n_not_finite} samples of {self._file.name} are no numbers and were taken as silence")
        stated_s = self._stated_s()
        if stated_s is not None and found_s < stated_s - CUT_S:
            notes.append(
                f"the sound in {self._file.name} is cut off: {found_s:.1f} of {stated_s:.1f} s could be decoded"
            )

    def _stated_s(self) -> float | None:
        """The duration that the file gives for its sound, if it does."""
        if self._file.suffix.lower() == ".wav":  # FFmpeg corrects its duration to what is there
            return self._stated_by_wav()
        if self._stream.duration is not None and self._stream.time_base is not None:
            return float(self._stream.duration * self._stream.time_base)
        tag = self._stream.metadata.get("DURATION", "")  # Matroska: 00:00:03.021000000
        if tag.count(":") == 2:
            hours, minutes, seconds = tag.split(":")
            start_s = float((self._stream.start_time or 0) * (self._stream.time_base or Fraction(0)))
            return int(hours) * 3600 + int(minutes) * 60 + float(seconds) - start_s
        only_sound = not self._container.streams.video
        return self._container.duration / av.time_base if only_sound and self._container.duration else None

    def _stated_by_wav(self) -> float | None:
        """By the size in the header; a stream of unknown length has the largest number or none there."""
        with self._file.open("rb") as stream:
            header = stream.read(8)
        size = int.from_bytes(header[4:8], "little") + 8
        missing = size - self._file.stat().st_size
        rate = self._stream.codec_context.bit_rate
        if header[:4] != b"RIFF" or missing <= 0 or size >= UNKNOWN_SIZE or not rate:
            return None
        return self._sound.waveform.duration_s + missing * 8 / rate


class _Resampler:
    """FFmpeg's resampler for frames of one format."""

    def __init__(self, frame: av.AudioFrame) -> None:
        self._kind = _kind(frame)
        graph = av.filter.Graph()
        source = graph.add_abuffer(
            sample_rate=frame.sample_rate,
            format=frame.format.name,
            layout=frame.layout.name,
            time_base=Fraction(1, frame.sample_rate),
        )
        resample = graph.add("aresample", RESAMPLE)
        sink = graph.add("abuffersink")
        source.link_to(resample)
        resample.link_to(sink)
        graph.configure()
        self._graph = graph

    def fits(self, frame: av.AudioFrame) -> bool:
        return self._kind == _kind(frame)

    def push(self, frame: av.AudioFrame | None) -> Iterator[NDArray[np.float32]]:
        """Samples that are ready after a frame, or all that are left at the end (None)."""
        if frame is not None:
            frame.pts = None  # times are kept outside: rough ones must not make it drop or add samples
        self._graph.push(frame)
        while True:
            try:
                yield self._graph.pull().to_ndarray().reshape(-1).astype(np.float32, copy=False)
            except (av.error.BlockingIOError, av.error.EOFError):
                return


def _kind(frame: av.AudioFrame) -> tuple[int, str, str]:
    return frame.sample_rate, frame.format.name, frame.layout.name
