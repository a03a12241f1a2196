"""The clock of a video: its frame rate and number of frames, and how they are known."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# attributes of a video, there where true: no file told its length, and its rows are spread over a clip
LENGTH_FROM_CROPS, SAMPLED = "length_from_crops", "sampled"
MARKS = (LENGTH_FROM_CROPS, SAMPLED)
CLOCK, DECODED = "clock", "decoded"  # attribute of a video whose rows are the pictures that its file's decoder gives


def marks_of(attrs: Mapping[str, Any]) -> tuple[str, ...]:
    """Which of `MARKS` the attributes of a video have."""
    return tuple(mark for mark in MARKS if attrs.get(mark) is True)


@dataclass(frozen=True)
class Clock:
    """Frame rate and number of frames of a video, and where they come from.

    Attributes:
        fps: frames a second; `STILLS_FPS` for images without a time axis.
        n_frames: of the video file, or the last crop's number where there is no file (or crops go on after its end).
        warning: why the frame rate is assumed, or that crops go on after the end of the file; else empty.
        is_guessed: the number of frames is the last crop's number alone; the video may be longer.
        is_sampled: the rows are spread over a clip, and are not the frames of its file.
        is_decoded: the frames are the pictures that the file's decoder gives.
    """

    fps: float
    n_frames: int
    warning: str = ""
    is_guessed: bool = False
    is_sampled: bool = False
    is_decoded: bool = False

    @property
    def attrs(self) -> dict[str, Any]:
        """What a store keeps of it: `fps`, `clock` where it is decoded, and each mark of `abaw.store.schema` that is true."""
        marks = {LENGTH_FROM_CROPS: self.is_guessed, SAMPLED: self.is_sampled}
        counted = {CLOCK: DECODED} if self.is_decoded else {}
        return {"fps": self.fps, **counted, **{mark: True for mark, is_so in marks.items() if is_so}}
