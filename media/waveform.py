"""Mono 16 kHz sound of any length: in memory if it is short, else in an unnamed temporary file."""

import tempfile
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from abaw.core.system_errors import naming

RATE_HZ = 16_000
MEMORY_SAMPLES = 600 * RATE_HZ  # ten minutes, 38 MB; longer sound is kept in a file ($TMPDIR), 230 MB per hour
SAMPLE_BYTES = 4


class Waveform:
    """A sound that grows at its end and is read in parts: float32, mono, 16 kHz, full scale [-1, 1]."""

    def __init__(self) -> None:
        self._parts: list[NDArray[np.float32]] = []
        self._file: IO[bytes] | None = None
        self._n_samples = 0

    def __len__(self) -> int:
        return self._n_samples

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self._n_samples / RATE_HZ

    def append(self, samples: NDArray[np.float32]) -> None:
        """Add samples, (n,) float32, at the end."""
        self._n_samples += len(samples)
        if self._file is None:
            self._parts.append(samples)
            if self._n_samples <= MEMORY_SAMPLES:
                return
            self._file = tempfile.TemporaryFile()  # noqa: SIM115  it lives as long as the waveform
            samples, self._parts = np.concatenate(self._parts), []
        with naming(Path(tempfile.gettempdir()) / "sound"):
            self._file.seek(0, 2)
            self._file.write(samples.astype(np.float32, copy=False).tobytes())

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """Samples `start` to `stop`, (stop - start,); silence outside the sound."""
        first, last = max(start, 0), min(stop, self._n_samples)
        inside = self._read(first, last) if first < last else np.zeros(0, dtype=np.float32)
        if first == start and last == stop:
            return inside
        samples = np.zeros(stop - start, dtype=np.float32)
        samples[first - start : first - start + len(inside)] = inside
        return samples

    def _read(self, first: int, last: int) -> NDArray[np.float32]:
        if self._file is None:
            if len(self._parts) > 1:
                self._parts = [np.concatenate(self._parts)]
            return self._parts[0][first:last]
        self._file.seek(first * SAMPLE_BYTES)
        return np.frombuffer(self._file.read((last - first) * SAMPLE_BYTES), dtype=np.float32)

    @classmethod
    def of(cls, samples: NDArray[np.float32]) -> "Waveform":
        """A waveform with the given samples."""
        waveform = cls()
        waveform.append(np.ascontiguousarray(samples, dtype=np.float32))
        return waveform
