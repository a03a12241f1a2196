"""Clips: videos without face crops, whose frames are whole pictures from the video file or a tensor.

Every clip has the same number of rows, regardless of its length and frame rate: row i shows the middle of the i-th of
that many equal parts of the clip. Sound of the clip is split into the same parts.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from abaw.core.clock import Clock
from abaw.core.errors import DataError
from abaw.datasets.dataset import Dataset
from abaw.datasets.frames import WHOLE, BrokenFrame, Frame, FrameSource, Video
from abaw.datasets.one_file import OneFile
from abaw.datasets.video_files import People
from abaw.media.decoders import PROCESSOR, Decoded, Decoder
from abaw.media.frame_times import FrameTimes, regular_times
from abaw.media.pictures import SHORTER_SIDE_PX, shrink
from abaw.media.probe import probe_span
from abaw.media.tensors import read_image_tensor

N_FRAMES = 75  # in a clip of 5 s, one in 67 ms, as in the system that won EmotiW 2023 (Augusma et al.)
IMAGES, SPECTROGRAMS = "img", "spec"  # kinds of tensors
CLIP_S = 5.0  # length of a clip of VGAF without a video file


@dataclass(frozen=True)
class ClipFrames(OneFile):
    """The frames of a clip: a `FrameSource`.

    Attributes:
        path: the source of the frames: the video file (then also `file`), or a tensor `<name>.img.<n>.pt`.
        n_frames: number of rows.
        fps: rows a second of a tensor.
        spectrograms: a tensor `<name>.spec.<n>.pt` with one for each row; None without one.
        normalised: see `read_image_tensor`.
        problem: why the clip has no pictures; empty if it has them.
        silence: why the clip has no spectrograms although it has tensors of some; else empty.
        decoder: of the video file.
    """

    name: str
    path: Path
    file: Path | None
    n_frames: int
    fps: float | None
    spectrograms: Path | None = None
    normalised: str = ""
    problem: str = ""
    silence: str = ""
    decoder: Decoder = PROCESSOR

    alignment = WHOLE

    @property
    def rows(self) -> NDArray[np.int64]:
        """All rows; errors show only when they are read. None without pictures."""
        return np.arange(self.size(), dtype=np.int64)

    def size(self) -> int:
        """The number of rows that have pictures."""
        return 0 if self.problem else self.n_frames

    def people(self) -> tuple[str, ...]:
        """One: the name."""
        return (self.name,)

    def _find_digest(self) -> str:
        """sha256 over name and size of the file, and the number of rows; and over `fps` for a tensor."""
        try:
            size_bytes = self.path.stat().st_size
        except OSError:  # a broken link: reading will report it
            size_bytes = 0
        listing = hashlib.sha256(f"{self.path.name} {size_bytes} {self.n_frames}".encode()).hexdigest()
        clock_source = self.file.stat().st_size if self.file is not None else self.fps
        if self.normalised and self.file is None:
            listing += f" normalised={self.normalised}"
        return hashlib.sha256(f"{listing} {clock_source}".encode()).hexdigest()

    def _read_clock(self) -> Clock:
        """Rows per second: their number over the clip's duration; for a tensor `fps`, else the rate of a clip of 5 s."""
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
        images: list[Decoded] = []
        self.content()  # of the file that is read now, not of one that replaces it meanwhile
        try:
            images = self._images()
        except DataError as error:
            reason = str(error)
        except Exception as error:  # FFmpeg and torch raise many types; one clip must not cost the others
            reason = f"{self.path} cannot be read ({error or type(error).__name__}). Replace it."
        for row in self.rows[start:stop].tolist():
            if row < len(images):
                yield Frame(row, images[row].image, by_processor=images[row].by_processor)
            else:
                yield BrokenFrame(row, reason)

    def _images(self) -> list[Decoded]:
        """All images in the order of the rows; fewer if the file ends early."""
        if self.file is None:
            images = read_image_tensor(self.path, self.normalised)
            if len(images) != self.n_frames:
                raise DataError(
                    f"{self.path} holds {len(images)} frames, but its name says {self.n_frames}. Correct the name."
                )
            return [Decoded(shrink(image, SHORTER_SIDE_PX)) for image in images]
        span = probe_span(self.file)
        times_s = [time_s for time_s in span.middles(self.n_frames).tolist() if time_s < span.start_s + span.pictured_s]
        return self.decoder.pictures_at(self.file, times_s, SHORTER_SIDE_PX)

    def why_empty(self) -> str:
        """See `FrameSource`."""
        return self.problem or super().why_empty()


@dataclass(frozen=True)
class ClipTensor:
    """A tensor of a clip: `kind` is "img" or "spec", and `n_frames` the number in its name."""

    kind: str
    n_frames: int
    path: Path


@dataclass(frozen=True)
class Clip:
    """A `Video` without crops.

    Attributes:
        name: unique in the dataset.
        path: the source of its frames: the video file (then also `file`), or a tensor `<name>.img.<n>.pt`.
        file: the video file; None for tensors.
        n_frames: number of rows.
        tensors: of a clip without a video file.
        normalised: see `read_image_tensor`.
    """

    name: str
    path: Path
    file: Path | None
    n_frames: int = N_FRAMES
    tensors: tuple[ClipTensor, ...] = ()
    normalised: str = ""

    @classmethod
    def of_tensors(cls, name: str, tensors: Iterable[ClipTensor], n_frames: int = 0, normalised: str = "") -> "Clip":
        """A clip without a video file.

        Args:
            n_frames: which tensors to take; 0 for those with the most pictures, or the most spectrograms without any.
        """
        tensors = tuple(tensors)
        pictures = {tensor.n_frames: tensor.path for tensor in tensors if tensor.kind == IMAGES}
        paths = pictures or {tensor.n_frames: tensor.path for tensor in tensors}
        n_frames = n_frames or max(paths)
        path = paths.get(n_frames, paths[max(paths)])
        return cls(name, path, None, n_frames, tensors, normalised)

    def open(self, fps: float | None, people: People) -> ClipFrames:
        """Its frames; nothing is decoded yet."""
        if not self.tensors:
            return ClipFrames(self.name, self.path, self.file, self.n_frames, fps)
        return ClipFrames(
            *(self.name, self.path, None, self.n_frames, fps),
            spectrograms=spectrograms_of(self),
            normalised=self.normalised,
            problem=self._lacks(IMAGES) or ("" if self._numbers(IMAGES) else f"Clip {self.name} has no .img tensor."),
            silence=self._lacks(SPECTROGRAMS),
        )

    def _numbers(self, kind: str) -> list[int]:
        return sorted(tensor.n_frames for tensor in self.tensors if tensor.kind == kind)

    def _lacks(self, kind: str) -> str:
        """Why there is no tensor of a kind, if there are some with other numbers of frames."""
        numbers = self._numbers(kind)
        if not numbers or self.n_frames in numbers:
            return ""
        return (
            f"There is no .{kind} tensor of {self.n_frames} frames of clip {self.name}, but of "
            f"{' and '.join(map(str, numbers))}. Choose one with --n-frames."
        )


def with_clips_as(dataset: Dataset, n_frames: int, normalised: str) -> Dataset:
    """The dataset with another number of rows for its clips, and tensors read in one way.

    Args:
        n_frames: rows of each clip, and which of its tensors are read; 0 leaves them.
        normalised: see `read_image_tensor`.
    """

    def changed(video: Video) -> Video:
        if not isinstance(video, Clip):
            return video
        if video.tensors:
            return Clip.of_tensors(video.name, video.tensors, n_frames, normalised)
        return replace(video, n_frames=n_frames or video.n_frames)

    return replace(dataset, videos=tuple(map(changed, dataset.videos)))


def spectrograms_of(video: Video | FrameSource) -> Path | None:
    """The tensor with the spectrograms of a clip that has no sound; None without one."""
    if isinstance(video, Clip):
        wanted = (SPECTROGRAMS, video.n_frames)
        return next((tensor.path for tensor in video.tensors if (tensor.kind, tensor.n_frames) == wanted), None)
    return video.spectrograms if isinstance(video, ClipFrames) else None


def why_silent(video: FrameSource) -> str:
    """Why a clip has no spectrograms although it has tensors of some; empty for other videos."""
    return video.silence if isinstance(video, ClipFrames) else ""


def note_spectrograms(dataset: Dataset) -> str:
    """A sentence about clips whose spectrograms come from tensors; empty without any."""
    n_clips = sum(spectrograms_of(video) is not None for video in dataset.videos)
    if not n_clips:
        return ""
    others = len(dataset.videos) - n_clips
    mixed = f" Those of {others} other clips are computed, perhaps in another way." if others else ""
    return f"Spectrograms of {n_clips} clips are taken from .{SPECTROGRAMS} tensors as they are.{mixed}"
