"""What every layout is read into: videos, their labels, and remarks about what is neither."""

import hashlib
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from os import cpu_count
from pathlib import Path
from typing import Protocol

from numpy.typing import NDArray

from abaw.core.clock import Clock
from abaw.core.errors import DataError
from abaw.core.names import composed
from abaw.core.progress import Reporter
from abaw.datasets.crops import Crops, count_crops, count_stills, list_crops, list_stills
from abaw.datasets.video_files import People
from abaw.media.probe import DEFAULT_FPS
from abaw.media.stamps import is_timed, read_stamps

STILLS_FPS = 1.0  # by definition: images without a time axis have no frame rate, but the store wants a number


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
        last_crop = int(crops.numbers[-1]) if len(crops.numbers) else 0
        reason = "no video file"
        if video.file is not None:
            try:
                return self._clock_of_file(video, video.file, last_crop)
            except DataError as error:
                reason = str(error)
        fps = self.fps or DEFAULT_FPS
        assumed = f"{fps:g} fps " + ("given with --fps" if self.fps else "assumed; say it with --fps")
        return Clock(fps, last_crop, f"{reason}: {assumed}", is_guessed=True)

    def _clock_of_file(self, video: Video, file: Path, last_crop: int) -> Clock:
        """The clock of a video whose frames are the pictures of a file, as they decode."""
        stamps = read_stamps(file)
        n_pictures = len(stamps.shown)
        notes = stamps.notes(file.name)
        if stamps.n_lost and video.name not in self.people.of(composed(file.stem)):  # `abaw prepare` counts as we do
            notes.append(stamps.doubt(file.name))
        if last_crop > n_pictures + 1:
            n_after = last_crop - n_pictures
            notes.append(f"crops go on {n_after} frames after the end of {file.name}: is it the right video?")
        return Clock(stamps.fps, max(n_pictures, last_crop), "; ".join(notes), is_decoded=True)

    @cached_property
    def people(self) -> People:
        """Which people `abaw prepare` found in the videos."""
        return People(self.root)

    def time_videos(self, videos: Iterable[Video], reporter: Reporter) -> None:
        """Decode the files of some videos for the times of their pictures, see `time_files`."""
        time_files((video.file for video in videos if video.file is not None), reporter)


def time_files(files: Iterable[Path], reporter: Reporter) -> None:
    """Decode video files for the times of their pictures, those that were not decoded before.

    What is wrong with a file is said where its clock is asked for.
    """
    new = sorted(file for file in set(files) if not _is_timed(file))
    if not new:
        return
    reporter.start("time pictures (once)", len(new), "video files")
    cancelled = threading.Event()

    def read(file: Path) -> None:
        with suppress(DataError):
            read_stamps(file, cancelled)

    pool = ThreadPoolExecutor(cpu_count() or 1)
    try:
        for done in as_completed([pool.submit(read, file) for file in new]):
            done.result()
            reporter.advance(1)
    finally:
        cancelled.set()
        pool.shutdown(wait=True, cancel_futures=True)
    reporter.finish()


def _is_timed(file: Path) -> bool:
    try:
        return is_timed(file)
    except DataError:  # no file: there is nothing to decode
        return True
