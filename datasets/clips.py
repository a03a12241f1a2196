"""Clips: videos without face crops, whose frames are whole pictures from the video file or a tensor.

Every clip has the same number of rows, regardless of its length and frame rate: row i shows the middle of the i-th of
that many equal parts of the clip. Sound of the clip is split into the same parts.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from abaw.core.clock import Clock
from abaw.core.errors import DataError
from abaw.datasets.frames import WHOLE, BrokenFrame, Frame, Remark
from abaw.datasets.video_files import People
from abaw.media.frame_times import FrameTimes, regular_times
from abaw.media.pictures import SHORTER_SIDE_PX, read_pictures_at, shrink
from abaw.media.probe import probe_span
from abaw.media.tensors import read_image_tensor

N_FRAMES = 75  # in a clip of 5 s, one in 67 ms, as in the system that won EmotiW 2023 (Augusma et al.)
CLIP_S = 5.0  # length of a clip of VGAF without a video file


@dataclass(frozen=True)
class ClipFrames:
    """The frames of a clip: a `FrameSource`.

    Attributes:
        path: the source of the frames: the video file (then also `file`), or a tensor `<name>.img.<n>.pt`.
        n_frames: number of rows.
        fps: rows a second of a tensor.
    """

    name: str
    path: Path
    file: Path | None
    n_frames: int
    fps: float | None

    alignment = WHOLE
    divisible = False  # decoding starts at the beginning of the file
    has_time_axis = True

    @property
    def rows(self) -> NDArray[np.int64]:
        """All rows; errors show only when they are read."""
        return np.arange(self.n_frames, dtype=np.int64)

    def size(self) -> int:
        """The number of rows."""
        return self.n_frames

    def people(self) -> tuple[str, ...]:
        """One: the name."""
        return (self.name,)

    def digest(self) -> str:
        """sha256 over name and size of the file, and the number of rows; and over `fps` for a tensor."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        try:
            size_bytes = self.path.stat().st_size
        except OSError:  # a broken link: reading will report it
            size_bytes = 0
        listing = hashlib.sha256(f"{self.path.name} {size_bytes} {self.n_frames}".encode()).hexdigest()
        clock_source = self.file.stat().st_size if self.file is not None else self.fps
        return hashlib.sha256(f"{listing} {clock_source}".encode()).hexdigest()

    def clock(self) -> Clock:
        """Rows per second: their number over the clip's duration; for a tensor `fps`, else the rate of a clip of 5 s.

        Raises:
            DataError: the video file cannot be read.
        """
        return self._clock

    @cached_property
    def _clock(self) -> Clock:
        if self.file is None:
            return Clock(self.fps or self.n_frames / CLIP_S, self.n_frames, is_sampled=True)
        span = probe_span(self.file)
        is_cut = span.pictured_s < span.duration_s
        warning = f"{self.file.name} is cut off: it has pictures for {span.pictured_s:.1f} of {span.duration_s:.1f} s"
        return Clock(self.n_frames / span.duration_s, self.n_frames, warning if is_cut else "", is_sampled=True)

    def times(self) -> FrameTimes:
        """Equal parts of the clip's duration, from the first picture on."""
        clock = self.clock()
        edges_ns = regular_times(clock.n_frames, clock.fps).edges_ns
        return FrameTimes(edges_ns, probe_span(self.file).start_s if self.file is not None else 0.0)

    def read(self, start: int, stop: int) -> Iterator[Frame | BrokenFrame]:
        """Decode the clip in one pass; rows after the last picture of a damaged file are broken.

        Frames are shrunk immediately: those of a full HD clip take 45 MB in total.
        """
        reason = f"{self.path} is cut off or damaged: its last part has no pictures."
        images: list[NDArray[np.uint8]] = []
        try:
            images = self._images()
        except DataError as error:
            reason = str(error)
        except Exception as error:  # FFmpeg and torch raise many types; one clip must not cost the others
            reason = f"{self.path} cannot be read ({error or type(error).__name__}). Replace it."
        for row in self.rows[start:stop].tolist():
            yield Frame(row, images[row]) if row < len(images) else BrokenFrame(row, reason)

    def _images(self) -> list[NDArray[np.uint8]]:
        """All images in the order of the rows; fewer if the file ends early."""
        if self.file is None:
            images = read_image_tensor(self.path)
            if len(images) != self.n_frames:
                raise DataError(
                    f"{self.path} holds {len(images)} frames, but its name says {self.n_frames}. Correct the name."
                )
            return [shrink(image, SHORTER_SIDE_PX) for image in images]
        span = probe_span(self.file)
        times_s = [time_s for time_s in span.middles(self.n_frames).tolist() if time_s < span.start_s + span.pictured_s]
        return [picture.image for picture in read_pictures_at(self.file, times_s, SHORTER_SIDE_PX)]

    def file_of(self, row: int) -> Path | None:
        """None, since one file holds all rows."""
        return None

    def remarks(self) -> list[Remark]:
        """Nothing."""
        return []

    def why_empty(self) -> str:
        """See `FrameSource`."""
        return f"{self.path} holds no frames."


@dataclass(frozen=True)
class Clip:
    """A `Video` without crops.

    Attributes:
        name: unique in the dataset.
        path: the source of its frames: the video file (then also `file`), or a tensor `<name>.img.<n>.pt`.
        file: the video file; None for a tensor.
        n_frames: number of rows.
    """

    name: str
    path: Path
    file: Path | None
    n_frames: int = N_FRAMES

    def open(self, fps: float | None, people: People) -> ClipFrames:
        """Its frames; nothing is decoded yet."""
        return ClipFrames(self.name, self.path, self.file, self.n_frames, fps)
