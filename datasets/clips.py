"""Clips: videos without face crops, whose frames are whole pictures out of the video file or out of a tensor.

Every clip has the same number of rows, whatever its length and frame rate: row i is what is shown in the middle of the
i-th of so many equal parts of the clip. Sound of the clip is brought to the same parts.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from abaw.core.clock import Clock
from abaw.datasets.crops import Crops
from abaw.datasets.dataset import Video
from abaw.media.probe import probe_span

N_FRAMES = 75  # of a clip of 5 s, one in 67 ms, as in the system that won EmotiW 2023 (Augusma et al.)
CLIP_S = 5.0  # length of a clip of VGAF, where there is no video file to tell it


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
