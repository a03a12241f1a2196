"""Resampling frames of sound to mono 16 kHz with FFmpeg."""

from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np
from numpy.typing import NDArray

from abaw.media.waveform import RATE_HZ

# one float channel; the weights of the input channels add up to at most one
RESAMPLE = f"sample_rate={RATE_HZ}:out_chlayout=mono:out_sample_fmt=flt:rematrix_maxval=1"


class Resampler:
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
        """Samples that are ready after a frame, or all remaining ones at the end (None)."""
        if frame is not None:
            frame.pts = None  # times are kept elsewhere: jitter must not make FFmpeg drop or add samples
        self._graph.push(frame)
        while True:
            try:
                yield self._graph.pull().to_ndarray().reshape(-1).astype(np.float32, copy=False)
            except (av.error.BlockingIOError, av.error.EOFError):
                return


def _kind(frame: av.AudioFrame) -> tuple[int, str, str]:
    return frame.sample_rate, frame.format.name, frame.layout.name
