"""Sources of frames: the interface between dataset layouts and everything that reads pictures.

A layout creates a `Video` for each unit that is planned and stored by name. Opening it gives a `FrameSource`: a folder
of crops (`abaw.datasets.image_folders`), a clip from a video file or a tensor (`abaw.datasets.clips`), or a type of
another distribution. No other code depends on which one it is.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from abaw.core.clock import Clock
from abaw.datasets.video_files import People
from abaw.media.frame_times import FrameTimes

WHOLE = "whole"  # alignment of pictures that are not crops of faces


@dataclass(frozen=True)
class Frame:
    """A frame that was read.

    Attributes:
        row: frame number - 1.
        image: (height, width, 3) uint8 RGB.
        person: whose face it shows, one of `FrameSource.people()`; empty where the source has one person.
        by_processor: the processor decoded it, although another decoder was asked for.
    """

    row: int
    image: NDArray[np.uint8]
    person: str = ""
    by_processor: bool = False


@dataclass(frozen=True)
class BrokenFrame:
    """A frame that cannot be read: its row, and a sentence with the reason."""

    row: int
    reason: str


@dataclass(frozen=True)
class Remark:
    """A sentence about a video, or about a part of the data that is not a video, such as a file with the labels of many videos.

    Attributes:
        about: name of the file, folder or video.
        sentence: what is wrong or unusual, and what to do.
        is_error: it must be fixed; something was left out because of it.
        is_of_people: it is about who is in the videos.
    """

    about: str
    sentence: str
    is_error: bool = True
    is_of_people: bool = False


class FrameSource(Protocol):
    """The frames of one video. Opening is cheap; files are listed, not decoded, on first use.

    Listed once, a source does not change: `rows`, `digest`, `clock` and `read` agree with each other.
    """

    @property
    def name(self) -> str:
        """Name of the video; unique in its dataset."""

    @property
    def file(self) -> Path | None:
        """The video file that the clock comes from, which may hold the sound; None without one."""

    @property
    def alignment(self) -> str:
        """How faces were cropped, a value of `abaw.core.records`; `WHOLE` for pictures that were not cropped to faces."""

    @property
    def divisible(self) -> bool:
        """True if pieces can be read independently, by several threads; False if one pass reads everything."""

    @property
    def has_time_axis(self) -> bool:
        """False for images that are not the frames of a video."""

    @property
    def rows(self) -> NDArray[np.int64]:
        """(frames,) the row of each frame that can be read, ascending; frame number - 1.

        Raises:
            OSError: the files cannot be listed.
        """

    def size(self) -> int:
        """Number of frames to read, for planning; cheaper than listing them.

        Raises:
            OSError: the files cannot be counted.
        """

    def people(self) -> tuple[str, ...] | None:
        """Names under which features are stored; None if they are known only after reading everything."""

    def digest(self) -> str:
        """sha256 over the source of the features, stored with them: it changes with the frames or the clock.

        Raises:
            OSError: the files cannot be listed.
        """

    def content(self) -> str:
        """Identifies the bytes that were read, for `has_content`; asked for when all frames are read. Empty if unknown."""

    def has_content(self, content: str) -> bool:
        """True if the frames and the clock are those of an earlier `content`, and if that is empty.

        `digest` changes when a file has another size; this is False, too, when it was replaced by one of the same size.
        """

    def clock(self) -> Clock:
        """Frame rate and number of rows.

        Raises:
            DataError: the video file cannot be read and the clock is otherwise unknown, or frames are numbered from 0.
            OSError: the files cannot be listed.
        """

    def times(self) -> FrameTimes:
        """When each row is shown, to join it with sound.

        Raises:
            DataError: see `clock`.
        """

    def read(self, start: int, stop: int) -> Iterator[Frame | BrokenFrame]:
        """Decode the frames of `rows[start:stop]`, in order. A broken frame never affects another."""

    def file_of(self, row: int) -> Path | None:
        """The image file that holds only this row; None if there is no such file."""

    def remarks(self) -> list[Remark]:
        """Unusual things about the files, for `abaw doctor`."""

    def why_empty(self) -> str:
        """A sentence for a source without rows, about what it contains instead of frames."""


class Video(Protocol):
    """A video of a dataset, or images that are treated like one."""

    @property
    def name(self) -> str:
        """Unique in the dataset; names its features and labels in the store."""

    @property
    def path(self) -> Path:
        """The folder or file that its frames are in."""

    @property
    def file(self) -> Path | None:
        """The video file; None without one."""

    def open(self, fps: float | None, people: People) -> FrameSource:
        """Its frames in their current state.

        Args:
            fps: frame rate without a video file.
            people: of the same dataset.
        """
