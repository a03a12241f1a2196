"""The labels of frames of BAH: which frames of a video show ambivalence or hesitancy.

split-frames/train.txt               also val.txt, test.txt; a line for each frame, counted from 0 as the crops are:
                                     `Videos/<person>/Visite_1/<id>.mp4/frame-0.jpg,0 or 1`
video_annotation_transcript.yaml     in place of that folder; also video_annotation.yaml, annotation.yml. Of each video
                                     `frame_annotation`: [[.../frame-0.jpg, 0 or 1], ...]

The two agree with `time_detailed_ah` and `fr_detailed_ah` in the YAML file, which say the same as intervals of time and of
frames and are not read. Frames that are not listed are not annotated.
"""

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from abaw.core.errors import DataError
from abaw.core.names import MAX_FRAMES
from abaw.datasets.media_search import name_of_video
from abaw.media.links import check_file
from abaw.media.text_files import read_blocks
from abaw.media.yaml_text import read_yaml

TASK = "ah-frames"
FOLDER, PREFIX = "split-frames", "frame-"
ANNOTATIONS = ("video_annotation_transcript.yaml", "video_annotation.yaml", "annotation.yml")
KEY = "frame_annotation"
OTHER_KEYS = frozenset({"all_cues", "certainty_ah", "fr_detailed_ah", "time_detailed_ah", "transcript"})
MAX_BYTES, START_BYTES = 2**29, 2**16  # of the YAML file, and of its start, where the key is if it has one
PRESENT = {"0": 0, "1": 1, "": -1}
Marked = tuple[list[int], list[int]]  # frame numbers from 1, and 0 absent, 1 present, -1 unknown


@dataclass(frozen=True, eq=False)
class MarkedFrames:
    """The frames of a video that are listed.

    Attributes:
        numbers: (frames,) int64 frame numbers from 1, in the order of the file.
        present: (frames,) int8: 0 absent, 1 present, -1 unknown.
    """

    numbers: NDArray[np.int64]
    present: NDArray[np.int8]

    def rows(self) -> NDArray[np.int8]:
        """(rows, 1); row i is frame i+1, -1 where it is not listed."""
        rows = np.full((int(self.numbers.max(initial=1)), 1), -1, dtype=np.int8)
        rows[self.numbers - 1, 0] = self.present
        return rows


@dataclass(frozen=True, eq=False)
class BahFrameLabels:
    """The labels of the frames of a video.

    Attributes:
        marked: its frames; None if the YAML file has to be read.
        annotated: that file.
    """

    split: str
    video: str
    path: Path
    person: str
    marked: MarkedFrames | None = None
    annotated: "AnnotatedFrames | None" = None
    task: str = TASK

    def read(self) -> NDArray:
        """(rows, 1) int8; row i is frame i+1.

        Raises:
            DataError: the YAML file cannot be read, or does not list the frames of the video.
        """
        if self.marked is not None:
            return self.marked.rows()
        assert self.annotated is not None
        return self.annotated.of(self.video).rows()


class AnnotatedFrames:
    """The labels in a YAML file of all videos, which is read when it is first asked for one: that takes some seconds."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._by_video: dict[str, MarkedFrames] | None = None

    def of(self, video: str) -> MarkedFrames:
        """The frames of a video; see `BahFrameLabels.read`."""
        with self._lock:
            if self._by_video is None:
                self._by_video = dict(self._read())
        if video not in self._by_video:
            raise DataError(f"{self.path} has no {KEY} of {video}. Copy it again.")
        return self._by_video[video]

    def _read(self) -> Iterator[tuple[str, MarkedFrames]]:
        content = read_yaml(self.path, OTHER_KEYS, MAX_BYTES)
        for name, of_video in content.items() if isinstance(content, dict) else ():
            listed = of_video.get(KEY) if isinstance(of_video, dict) else None
            if not isinstance(listed, list):
                continue
            marked: Marked = ([], [])
            for number, entry in enumerate(listed, start=1):
                frame, label = entry if isinstance(entry, list) and len(entry) == 2 else ("", "?")
                if not _mark(marked, str(frame).rpartition("/")[2], str(label)):
                    raise _invalid(f"{self.path}: {KEY} {number} of {str(name)[:60]}", str(entry))
            yield name_of_video(name), _checked(marked, f"{self.path}: {KEY} of {str(name)[:60]}")


def read_frame_split(path: Path) -> dict[str, MarkedFrames]:
    """The frames in a file of `split-frames/`, by name of the video.

    Raises:
        DataError: an invalid line, or a frame that is listed twice; names the file.
    """
    by_folder: dict[str, Marked] = {}
    last = ""
    marked: Marked = ([], [])
    for number, line in enumerate(chain.from_iterable(read_blocks(path)), start=1):
        text, _, label = (line.replace("\\", "/") if "\\" in line else line).partition(",")
        folder, _, frame = text.rpartition("/")
        if folder != last:
            marked, last = by_folder.setdefault(folder, ([], [])), folder
        if not folder or not _mark(marked, frame, label):
            raise _invalid(f"{path} line {number}", line)
    by_video: dict[str, MarkedFrames] = {}
    for folder, of_video in by_folder.items():
        name = name_of_video(folder)
        if name in by_video:
            raise DataError(f"{path} lists {name} in two folders. Delete the lines of one of them.")
        by_video[name] = _checked(of_video, f"{path}: {name}")
    return by_video


def _mark(marked: Marked, frame: str, label: str) -> bool:
    """Note the label of a frame; False if they are not those of one."""
    number, present = _number_of(frame), PRESENT.get(label.strip())
    if not number or present is None:
        return False
    marked[0].append(number)
    marked[1].append(present)
    return True


@lru_cache(2**16)
def _number_of(frame: str) -> int:
    """The number from 1 of `frame-0.jpg` or, counted from 1, `1.jpg`; 0 if it has none."""
    digits, is_from_0 = frame.partition(".")[0], frame.startswith(PREFIX)
    digits = digits.removeprefix(PREFIX)
    number = int(digits) + is_from_0 if digits.isascii() and digits.isdigit() and len(digits) < 12 else 0
    return number if number <= MAX_FRAMES else 0


def _invalid(where: str, found: str) -> DataError:
    return DataError(
        f"{where}: expected a frame, such as a_Video.mp4/frame-0.jpg, and 0 or 1, found {found.strip()[:80]!r}. Correct it."
    )


def _checked(marked: Marked, where: str) -> MarkedFrames:
    numbers = np.array(marked[0], dtype=np.int64)
    unique, counts = np.unique(numbers, return_counts=True)
    if len(unique) < len(numbers):
        raise DataError(f"{where}: frame-{unique[counts.argmax()] - 1} is listed twice. Delete one of the two.")
    return MarkedFrames(numbers, np.array(marked[1], dtype=np.int8))


def annotation_file(home: Path) -> Path | None:
    """The YAML file with labels of frames; None without one, and for a file of transcripts alone."""
    return next((path for name in ANNOTATIONS if _lists_frames(path := home / name)), None)


def _lists_frames(path: Path) -> bool:
    if not path.is_file():
        return False
    try:
        with check_file(path).open("rb") as stream:
            return KEY.encode() in stream.read(START_BYTES)
    except OSError:
        return False  # reading its transcripts says why


def describe_frame_labels(labels: Iterable[BahFrameLabels], path: Path) -> str:
    """How many frames of how many videos are labelled, where that is known before the file is read."""
    known = [label.marked.present for label in labels if label.marked is not None]
    if not known:
        return f"Labels of frames ({TASK}) are in {path.name}"
    n_labelled, n_present = (sum(int((present >= least).sum()) for present in known) for least in (0, 1))
    return (
        f"Labels of frames ({TASK}): {n_labelled:,} frames of {len(known):,} videos, {n_present:,} of them with ambivalence "
        "or hesitancy"
    )
