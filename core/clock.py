"""The clock of a video: its frame rate and number of frames, and where they come from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# attributes of a video in the store, present where true: its length is a guess; its rows are spread over a clip
LENGTH_FROM_CROPS, SAMPLED = "length_from_crops", "sampled"
MARKS = (LENGTH_FROM_CROPS, SAMPLED)
CLOCK, DECODED = "clock", "decoded"  # attribute of a video whose rows are the pictures as its file decodes


def marks_of(attrs: Mapping[str, Any]) -> tuple[str, ...]:
    """Which of `MARKS` the attributes of a video have."""
    return tuple(mark for mark in MARKS if attrs.get(mark) is True)


@dataclass(frozen=True)
class Clock:
    """Frame rate and number of frames of a video, and where they come from.

    Attributes:
        fps: frames a second; `STILLS_FPS` for images without a time axis.
        n_frames: from the video file, or the number of the last crop if that is larger or there is no file.
        warning: why the frame rate is assumed, or that there are crops after the end of the file; else empty.
        is_guessed: the number of frames is only the number of the last crop; the video may be longer.
        is_sampled: the rows are spread over a clip; they are not the frames of its file.
        is_decoded: the frames are the pictures of the file as it decodes.
    """

    fps: float
    n_frames: int
    warning: str = ""
    is_guessed: bool = False
    is_sampled: bool = False
    is_decoded: bool = False

    @property
    def attrs(self) -> dict[str, Any]:
        """Attributes for the store: `fps`, `clock` if it is decoded, and each of `MARKS` that is true."""
        marks = {LENGTH_FROM_CROPS: self.is_guessed, SAMPLED: self.is_sampled}
        clock = {CLOCK: DECODED} if self.is_decoded else {}
        return {"fps": self.fps, **clock, **{mark: True for mark, is_set in marks.items() if is_set}}
