"""Clips: videos without face crops, whose frames are whole pictures out of the video file or out of a tensor.

Every clip has the same number of rows, whatever its length and frame rate: row i is what is shown in the middle of the
i-th of so many equal parts of the clip. Sound of the clip is brought to the same parts.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from abaw.core.clock import Clock
from abaw.datasets.dataset import Video
from abaw.datasets.images import Crops
from abaw.datasets.picture_times import CUT_S
from abaw.datasets.stamps import read_stamps

N_FRAMES = 75  # of a clip of 5 s, one in 67 ms, as in the system that won EmotiW 2023 (Augusma et al.)
CLIP_S = 5.0  # length of a clip of VGAF, where there is no video file to tell it


@dataclass(frozen=True)
class Span:
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


def probe_span(file: Path) -> Span:
    """Read when the pictures of a video file are shown; see `read_stamps`."""
    stamps = read_stamps(file)
    found_s = float((stamps.shown[-1] - stamps.shown[0] + stamps.step) * stamps.base)
    stated_s = float(stamps.stated * stamps.base)
    duration_s = stated_s if stated_s > found_s + CUT_S else found_s
    return Span(float(int(stamps.shown[0]) * stamps.base), duration_s, found_s)


@dataclass(frozen=True, kw_only=True)
class Clip(Video):
    """A video without crops.

    Attributes:
        pictures: what its frames are from: the video file (then also `file`), or a tensor `<name>.img.<n>.pt`.
        n_frames: its rows.
    """

    pictures: Path
    n_frames: int = N_FRAMES

    def crops(self) -> Crops:
        """The frames as `Crops`, every one of them from the same file; nothing is decoded."""
        try:
            size_bytes = self.pictures.stat().st_size
        except OSError:  # a link to nowhere: reading it will cost this clip
            size_bytes = 0
        numbers = np.arange(1, self.n_frames + 1, dtype=np.int64)
        text = f"{self.pictures.name} {size_bytes} {self.n_frames}"
        digest = hashlib.sha256(text.encode()).hexdigest()
        return Crops(self.pictures.parent, numbers, (self.pictures.name,) * self.n_frames, digest, ())

    def n_crops(self) -> int:
        """The number of its rows."""
        return self.n_frames

    def own_clock(self, fps: float | None) -> Clock:
        """Rows a second: their number over the clip's duration, or `fps` (else that of a clip of 5 s) of a tensor.

        Raises:
            DataError: the video file cannot be read.
        """
        if self.file is None:
            return Clock(fps or self.n_frames / CLIP_S, self.n_frames, is_sampled=True)
        span = probe_span(self.file)
        is_cut = span.found_s < span.duration_s
        warning = f"{self.file.name} is cut off: pictures of {span.found_s:.1f} of {span.duration_s:.1f} s are there"
        return Clock(self.n_frames / span.duration_s, self.n_frames, warning if is_cut else "", is_sampled=True)
