"""The layout of BAH: whole videos of people who answer questions, with or without ambivalence and hesitancy.

split/train.txt  split/val.txt  split/test.txt    `path,0 or 1,transcript`; the transcript has commas, too
Videos/<person>/Visite_1/<id>.mp4                 <id> is <person>_Question_<q>_<date>_Video
cropped-aligned-faces/Videos/.../<id>.mp4/frame-0.jpg    face crops, counted from 0; a video without them is read as
                                                         whole pictures

Labels of frames, where there are some, are another task, see `abaw.datasets.bah_frame_labels`.

All may be one level further down. Lines of test videos may lack a label: these are videos to predict. Transcripts with
times are in transcription/, else in video_annotation_transcript.yaml, see `abaw.datasets.transcripts`.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from abaw.core.errors import DataError
from abaw.core.names import check_name
from abaw.core.people import person_of
from abaw.datasets.bah_frame_labels import FOLDER as FRAME_FOLDER
from abaw.datasets.bah_frame_labels import (
    AnnotatedFrames,
    BahFrameLabels,
    annotation_file,
    describe_frame_labels,
    read_frame_split,
)
from abaw.datasets.crops import Crops, count_crops, list_crops
from abaw.datasets.dataset import Dataset
from abaw.datasets.folders import subfolders
from abaw.datasets.frames import Remark
from abaw.datasets.image_folders import CropFolder, CropFrames
from abaw.datasets.layouts import Layout
from abaw.datasets.media_search import name_of_video, search_media
from abaw.datasets.video_files import People
from abaw.media.text_files import read_lines

TASK = "ah"
SPLIT_FOLDER, SPLIT_FILES = "split", {"train": "train.txt", "val": "val.txt", "test": "test.txt"}
PREFIX = "frame-"  # of the names of crops
VERSIONS = {(616, 110, 392): "version 1 (ABAW 8 and 9)", (778, 124, 525): "version 2 (ABAW 10 and 11)"}


@dataclass(frozen=True)
class BahLabel:
    """The label of a video: 0 absent, 1 present, -1 unknown."""

    split: str
    video: str
    path: Path
    present: int
    person: str
    task: str = TASK

    def read(self) -> NDArray:
        """(1, 1) int8."""
        return np.array([[self.present]], dtype=np.int8)


@dataclass(frozen=True)
class BahLine:
    """A line of a split: the path as written, 0 or 1 (-1 without a label), and the transcript."""

    path: str
    present: int
    transcript: str

    @property
    def video(self) -> str:
        """Name of the video."""
        return name_of_video(self.path)

    @property
    def person(self) -> str:
        """Who is in it: the part of the name before `_Question_`, else the folder two levels up."""
        parts = self.path.replace("\\", "/").split("/")
        person = person_of(self.video)
        return parts[-3] if person == self.video and len(parts) >= 3 else person


class BahFrames(CropFrames):
    """Face crops `frame-0.jpg`, or `1.jpg` as in other layouts."""

    @cached_property
    def crops(self) -> Crops:
        """The listing, made on first use."""
        return list_crops(self.folder, prefix=PREFIX)

    def size(self) -> int:
        """See `FrameSource`."""
        return count_crops(self.folder, prefix=PREFIX)


class BahFolder(CropFolder):
    """A video as a folder of face crops."""

    def open(self, fps: float | None, people: People) -> BahFrames:
        """Its crops; nothing is listed yet."""
        return BahFrames(self.name, self.path, self.file, fps, people)


def open_bah(root: Path, fps: float | None = None) -> Dataset | None:
    """The videos and labels of BAH under a root; None without the files of its splits."""
    home = next((folder for folder in (root, *subfolders(root)) if _has_splits(folder)), None)
    if home is None:
        return None
    labels: dict[str, BahLabel] = {}
    remarks, counts = [], {}
    for split, file in SPLIT_FILES.items():
        path = home / SPLIT_FOLDER / file
        try:
            lines = list(read_split(path)) if path.is_file() else []
            counts[split] = len(lines)
            _add_labels(labels, path, split, lines)
        except DataError as error:
            remarks.append(Remark(path.name, str(error)))
    frames, frame_remarks = _frame_labels(home, labels)
    remarks += frame_remarks
    media = search_media(home, PREFIX)
    remarks += [
        Remark(second.name, f"{second} is not used: {first} has the same name. Rename or delete one of the two.")
        for first, second in media.twice.values()
    ]
    remarks.append(Remark(SPLIT_FOLDER, describe_version(counts, labels.values()), is_error=False))
    videos = media.videos(sorted({*labels, *media.files, *media.folders}), BahFolder)
    labelled = [label for label in labels.values() if label.present >= 0]
    return Dataset(root, tuple(videos), (*labelled, *frames), fps, tuple(remarks))


def _frame_labels(home: Path, labels: Mapping[str, BahLabel]) -> tuple[list[BahFrameLabels], list[Remark]]:
    """The labels of frames, and remarks about them."""
    frames, remarks = [], []
    folder = home / FRAME_FOLDER
    for split, file in SPLIT_FILES.items():
        path = folder / file
        try:
            by_video = read_frame_split(path) if path.is_file() else {}
        except DataError as error:
            remarks.append(Remark(f"{FRAME_FOLDER}/{file}", str(error)))
            continue
        for video, marked in by_video.items():
            if (marked.present >= 0).any():
                person = labels[video].person if video in labels else person_of(video)
                frames.append(BahFrameLabels(split, check_name(video, "video"), path, person, marked))
    path = folder
    if not folder.is_dir() and (annotations := annotation_file(home)) is not None:
        path, annotated = annotations, AnnotatedFrames(annotations)
        frames = [
            BahFrameLabels(label.split, label.video, annotations, label.person, annotated=annotated)
            for label in labels.values()
            if label.present >= 0
        ]
    if frames:
        remarks.append(Remark(path.name, describe_frame_labels(frames, path), is_error=False))
    return frames, remarks


def _has_splits(folder: Path) -> bool:
    return all((folder / SPLIT_FOLDER / SPLIT_FILES[split]).is_file() for split in ("train", "val"))


def _add_labels(labels: dict[str, BahLabel], path: Path, split: str, lines: Sequence[BahLine]) -> None:
    for number, line in enumerate(lines, start=1):
        video = check_name(line.video, "video")
        if video in labels:
            raise DataError(f"{path} line {number}: {video} is also in {labels[video].path}. Delete one of the lines.")
        labels[video] = BahLabel(split, video, path, line.present, line.person)


def read_split(path: Path) -> Iterator[BahLine]:
    """Parse and check the file of a split. The transcript is what follows the second comma.

    Raises:
        DataError: an invalid line; names file and line.
    """
    for number, line in enumerate(read_lines(path), start=1):
        cells = [cell.strip() for cell in line.split(",", 2)]
        label = cells[1] if len(cells) > 1 else ""
        if not name_of_video(cells[0]) or label not in ("0", "1", ""):
            raise DataError(
                f"{path} line {number}: expected a path, 0 or 1, and the transcript, found {line.strip()[:60]!r}. Correct "
                "the line."
            )
        yield BahLine(cells[0], int(label or -1), cells[2] if len(cells) > 2 else "")


def describe_version(counts: dict[str, int], labels: Collection[BahLabel]) -> str:
    """Which version of BAH a folder has, by the lines of its splits."""
    numbers = counts.get("train", 0), counts.get("val", 0), counts.get("test", 0)
    people = len({label.person for label in labels})
    version = VERSIONS.get(numbers, "no known version, or a part of one")
    return (
        f"BAH, {version}: {sum(numbers):,} videos of {people:,} people, {'/'.join(map(str, numbers))} in train/val/test"
    )


LAYOUT = Layout(open_bah, f"BAH (ah), with {SPLIT_FOLDER}/{SPLIT_FILES['train']} and Videos/")
