"""Properties of a video file: frame rate, number of frames, and when its pictures are shown."""

from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from abaw.core.errors import DataError
from abaw.media.decoder import open_media, picture_stream
from abaw.media.picture_times import CUT_S
from abaw.media.stamps import read_stamps

DEFAULT_FPS = 30.0


@dataclass(frozen=True)
class Timing:
    """Frame rate (frames a second, mean over the file) and number of frames of a video file."""

    fps: float
    n_frames: int


def probe_timing(file: Path) -> Timing:
    """Frame rate and number of frames of a video file, as it decodes; see `read_stamps`.

    Raises:
        DataError: the file cannot be read or has no pictures.
    """
    stamps = read_stamps(file)
    return Timing(stamps.fps, len(stamps.shown))


def stated_frames(file: Path) -> int:
    """About how many frames a video file has, by its header; at least 1. Nothing is decoded.

    Raises:
        DataError: the file cannot be read or has no pictures.
    """
    try:
        with open_media(file) as container:
            stream = picture_stream(container, file)
            if stream.frames:
                return int(stream.frames)
            if stream.duration is not None and stream.time_base is not None:
                seconds = float(stream.duration * stream.time_base)
            else:
                seconds = (container.duration or 0) / av.time_base
            return max(1, round(seconds * float(stream.average_rate or DEFAULT_FPS)))
    except (av.FFmpegError, OSError) as error:
        raise DataError(f"{file} cannot be read as a video ({error}). Replace it, or delete it.") from error


@dataclass(frozen=True)
class ShownSpan:
    """When the pictures of a video file are shown.

    Attributes:
        start_s: time of the first picture on the clock of the file.
        duration_s: from the first picture to the end of the last one; the stated duration if the file is cut off.
        pictured_s: the part of the duration that has pictures.
    """

    start_s: float
    duration_s: float
    pictured_s: float

    def middles(self, n_parts: int) -> NDArray[np.float64]:
        """(n_parts,) times on the clock of the file: the middles of `n_parts` equal parts of the duration."""
        middles = (np.arange(n_parts, dtype=np.float64) + 0.5) * (self.duration_s / n_parts)
        return np.asarray(self.start_s + middles, dtype=np.float64)


def probe_span(file: Path) -> ShownSpan:
    """Read when the pictures of a video file are shown; see `read_stamps`."""
    stamps = read_stamps(file)
    pictured_s = float((stamps.shown[-1] - stamps.shown[0] + stamps.step) * stamps.base)
    stated_s = float(stamps.stated * stamps.base)
    duration_s = stated_s if stated_s > pictured_s + CUT_S else pictured_s
    return ShownSpan(float(int(stamps.shown[0]) * stamps.base), duration_s, pictured_s)
