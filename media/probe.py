"""What a video file states of itself: frame rate, number of frames, when its pictures are shown."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

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


@dataclass(frozen=True)
class ShownSpan:
    """When the pictures of a video file are shown.

    Attributes:
        start_s: time of the first picture on the clock of the file.
        duration_s: from the first picture to the end of the last one, as far as the file states it where it is cut off.
        found_s: the part of it that there are pictures for.
    """

    start_s: float
    duration_s: float
    found_s: float

    def middles(self, n_parts: int) -> NDArray[np.float64]:
        """(n_parts,) times on the clock of the file: the middles of so many equal parts of the duration."""
        middles = (np.arange(n_parts, dtype=np.float64) + 0.5) * (self.duration_s / n_parts)
        return np.asarray(self.start_s + middles, dtype=np.float64)


def probe_span(file: Path) -> ShownSpan:
    """Read when the pictures of a video file are shown; see `read_stamps`."""
    stamps = read_stamps(file)
    found_s = float((stamps.shown[-1] - stamps.shown[0] + stamps.step) * stamps.base)
    stated_s = float(stamps.stated * stamps.base)
    duration_s = stated_s if stated_s > found_s + CUT_S else found_s
    return ShownSpan(float(int(stamps.shown[0]) * stamps.base), duration_s, found_s)
