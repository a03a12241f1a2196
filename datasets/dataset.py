"""The common form of all layouts: videos, their labels, and remarks about everything else."""

import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from os import cpu_count
from pathlib import Path
from typing import Protocol

from numpy.typing import NDArray

from abaw.core.errors import DataError
from abaw.core.people import is_person, person_in_name, without_side
from abaw.core.progress import Reporter
from abaw.core.tasks import TASKS
from abaw.datasets.frames import FrameSource, Remark, Video
from abaw.datasets.video_files import People
from abaw.media.stamps import is_timed, read_stamps


class Labels(Protocol):
    """The labels of one video for one task; an attribute `person`, where there is one, says who is in the video."""

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
        """The file or folder that holds them."""

    def read(self) -> NDArray:
        """(rows, columns) labels as published, invalid values kept; row i is frame i+1.

        Raises:
            DataError: they are invalid; the message names file and line.
        """


@dataclass(frozen=True)
class Dataset:
    """Videos and labels under a root.

    Attributes:
        fps: frame rate of videos without a video file.
        remarks: about everything else in the folder.
        persons: who is in a video, by its name, from a table or folders of the user's; see `abaw.datasets.named_people`.
        companions: files of videos that may be read in place of others, such as tensors of fewer frames.
        layouts: names of those that were found, such as `affwild2`.
    """

    root: Path
    videos: tuple[Video, ...]
    labels: tuple[Labels, ...]
    fps: float | None
    remarks: tuple[Remark, ...] = ()
    companions: tuple[Path, ...] = ()
    layouts: tuple[str, ...] = ()
    persons: Mapping[str, str] = field(default_factory=dict)

    def person_of(self, label: Labels) -> str:
        """Who is in the video of a label: by `persons`, by the label, or by the name of the video; empty if unknown."""
        named = self.persons.get(label.video) or self.persons.get(without_side(label.video), "")
        level = TASKS[label.task].level if label.task in TASKS else "frame"
        person = named or str(getattr(label, "person", "")) or person_in_name(label.video, level)
        return person if is_person(person) else ""

    def open(self, video: Video) -> FrameSource:
        """Open the frames of a video; nothing is listed or decoded yet."""
        return video.open(self.fps, self.people)

    @cached_property
    def people(self) -> People:
        """The people that `abaw prepare` detected in the videos."""
        return People(self.root)

    def time_videos(self, videos: Iterable[Video], reporter: Reporter) -> None:
        """Decode the files of videos for the times of their pictures, see `time_files`."""
        time_files((video.file for video in videos if video.file is not None), reporter)


def time_files(files: Iterable[Path], reporter: Reporter) -> None:
    """Decode video files for the times of their pictures, unless these are known already.

    Errors in a file are raised when something asks for its clock.
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
        for future in as_completed([pool.submit(read, file) for file in new]):
            future.result()
            reporter.advance(1)
    finally:
        cancelled.set()
        pool.shutdown(wait=True, cancel_futures=True)
    reporter.finish()


def _is_timed(file: Path) -> bool:
    try:
        return is_timed(file)
    except DataError:  # no file, so nothing to decode
        return True
