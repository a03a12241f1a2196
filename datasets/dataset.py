"""What every layout is read into: videos, their labels, and remarks about what is neither."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from abaw.datasets.images import Crops, count_crops, count_stills, list_crops, list_stills
from abaw.datasets.videos import DEFAULT_FPS, Timing, probe_timing
from abaw.errors import DataError
from abaw.metadata import LENGTH_FROM_CROPS, SAMPLED

STILLS_FPS = 1.0  # by definition: images without a time axis have no frame rate, but the store wants a number


@dataclass(frozen=True)
class Clock:
    """Frame rate and number of frames of a video, and where they come from.

    Attributes:
        fps: frames a second; `STILLS_FPS` for images without a time axis.
        n_frames: of the video file, or the last crop's number where there is no file (or crops go on after its end).
        warning: why the frame rate is assumed, or that crops go on after the end of the file; else empty.
        is_guessed: the number of frames is the last crop's number alone; the video may be longer.
        is_sampled: the rows are spread over a clip, and are not the frames of its file.
    """

    fps: float
    n_frames: int
    warning: str = ""
    is_guessed: bool = False
    is_sampled: bool = False

    @property
    def attrs(self) -> dict[str, Any]:
        """What a store keeps of it: `fps`, and each mark of `abaw.metadata` that is true."""
        marks = {LENGTH_FROM_CROPS: self.is_guessed, SAMPLED: self.is_sampled}
        return {"fps": self.fps, **{mark: True for mark, is_so in marks.items() if is_so}}


@dataclass(frozen=True)
class Video:
    """One person in one video: the folder of crops, and the video file if it is there.

    Attributes:
        name: unique in the dataset; names its features and labels in the store.
        folder: where its crops lie.
        file: the video file.
    """

    name: str
    folder: Path
    file: Path | None

    def crops(self) -> Crops:
        """List the crops; nothing is decoded."""
        return list_crops(self.folder)

    def n_crops(self) -> int:
        """The number of its crops, for less than it takes to list them."""
        return count_crops(self.folder)

    def own_clock(self, fps: float | None) -> Clock | None:
        """The clock of a video whose rows are not the frames of a file (see `Clip`); None for those whose rows are.

        Args:
            fps: stands in where no file tells a frame rate.

        Raises:
            DataError: its file cannot be read.
        """
        return None

    def clock_source(self, fps: float | None) -> float | None:
        """What the clock changes with: the size of the video file, or `fps` where there is none."""
        return self.file.stat().st_size if self.file is not None else fps


@dataclass(frozen=True)
class Stills(Video):
    """Images without a time axis, of any names: row i is the i-th one in natural order."""

    def crops(self) -> Crops:
        """List the images; nothing is decoded."""
        return list_stills(self.folder)

    def n_crops(self) -> int:
        """The number of its images."""
        return count_stills(self.folder)

    def own_clock(self, fps: float | None) -> Clock | None:
        """`STILLS_FPS`, and as many frames as images."""
        return Clock(STILLS_FPS, self.n_crops())

    def clock_source(self, fps: float | None) -> float | None:
        """Always `STILLS_FPS`."""
        return STILLS_FPS


class Labels(Protocol):
    """The labels of one video for one task, wherever they are written."""

    @property
    def task(self) -> str:
        """Name of the task."""

    @property
    def split(self) -> str:
        """`train` or `val`."""

    @property
    def video(self) -> str:
        """Name of the video."""

    @property
    def path(self) -> Path:
        """The file or folder that they come from."""

    def read(self) -> NDArray:
        """(rows, columns) labels as published, invalid values kept; row i is frame i+1.

        Raises:
            DataError: they are not as they should be; names file and line.
        """


@dataclass(frozen=True)
class Remark:
    """A sentence about a part of the data that is no video, such as a file with the labels of many.

    Attributes:
        about: name of the file or folder, or of the video that is not there.
        sentence: what was found, and what to do.
        is_error: it needs mending, and something was left out because of it.
    """

    about: str
    sentence: str
    is_error: bool = True


@dataclass(frozen=True)
class Dataset:
    """Videos and labels found under a root. `fps` stands in for videos without a file."""

    root: Path
    videos: tuple[Video, ...]
    labels: tuple[Labels, ...]
    fps: float | None
    remarks: tuple[Remark, ...] = ()

    def digest(self, video: Video, crops: Crops) -> str:
        """sha256 over what a video's features come from: its crops, and the file (or --fps) that its clock is from."""
        return hashlib.sha256(f"{crops.digest} {video.clock_source(self.fps)}".encode()).hexdigest()

    def clock(self, video: Video, crops: Crops) -> Clock:
        """Frame rate and number of frames of a video.

        Raises:
            DataError: the file of a video without crops cannot be read, or a crop has the frame number 0.
        """
        if crops.fault:
            raise DataError(crops.fault)
        own = video.own_clock(self.fps)
        if own is not None:
            return own
        timing, reason = Timing(self.fps or DEFAULT_FPS, 0), "no video file"
        if video.file is not None:
            try:
                timing, reason = probe_timing(video.file), ""
            except DataError as error:
                reason = str(error)
        last_crop = int(crops.numbers[-1]) if len(crops.numbers) else 0
        assumed = f"{timing.fps:g} fps " + ("given with --fps" if self.fps else "assumed; say it with --fps")
        n_frames = max(timing.n_frames, last_crop)
        warning, n_after = f"{reason}: {assumed}" if reason else "", n_frames - timing.n_frames
        if video.file is not None and not reason and n_after > 1:
            warning = f"crops go on {n_after} frames after the end of {video.file.name}: is it the right video?"
        return Clock(timing.fps, n_frames, warning, is_guessed=bool(reason))
