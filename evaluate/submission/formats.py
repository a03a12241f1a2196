"""Submission files of the challenges: their headers, the text of their rows, and the official samples.

image_location,valence,arousal             va:   video/00001.jpg,0.123456,-0.100000
image_location,Neutral,...,Other           expr: video/00001.jpg,3          eight names, but one class in the rows
image_location,AU1,...,AU26                au:   video/00001.jpg,0,1,...    twelve 0/1
image,valence,arousal,expression,aus       mtl:  five names, but sixteen columns in the rows
image,expression                           lsd:  0.jpg,3                    the name of an image

Before the fifth challenge there was one file for each video, with the header and the rows of a label file.
"""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from abaw.core.errors import DataError, UsageError
from abaw.core.names import composed
from abaw.core.tasks import TASKS, Task
from abaw.datasets.mtl import IMAGE, LAST_FRAME

Form = Literal["images", "videos"]  # one file with a row for each image, or a file for each video
FORMS: dict[Form, str] = {"images": "a submission file", "videos": "one submission file per video"}
LEAST_SHARED = 0.5  # of the cells of a header, for a suggestion
DIGITS = 6  # decimals of real numbers


@dataclass(frozen=True)
class Sample:
    """An official sample file: the rows to predict.

    Attributes:
        path: the file.
        task: the task of its header.
        header: its first line.
        images: the image of each row, as written; an image that is listed twice has two rows.
    """

    path: Path
    task: Task
    header: str
    images: list[str]


@dataclass(frozen=True)
class VideoList:
    """A list of videos, one per line, each of which needs its own file; names are as written."""

    path: Path
    videos: tuple[str, ...]


@dataclass(frozen=True)
class FrameRows:
    """The rows of videos in a store that the rows of a file refer to.

    Attributes:
        videos: names, in the order of their first row.
        index: (rows,) int64, number of the row's video.
        rows: (rows,) int64, row in the video: frame number - 1.
    """

    videos: tuple[str, ...]
    index: NDArray[np.int64]
    rows: NDArray[np.int64]

    @classmethod
    def of(cls, pairs: Iterable[tuple[str, int]]) -> "FrameRows":
        """Build from pairs of a video and a row in it."""
        number_of: dict[str, int] = {}
        index, rows = array("q"), array("q")  # a list of a million pairs would need twenty times the memory
        for video, row in pairs:
            index.append(number_of.setdefault(video, len(number_of)))
            rows.append(row)
        return cls(tuple(number_of), np.array(index, dtype=np.int64), np.array(rows, dtype=np.int64))

    @property
    def n_rows(self) -> dict[str, int]:
        """By video, its last row plus one."""
        last = np.zeros(len(self.videos), dtype=np.int64)
        np.maximum.at(last, self.index, self.rows + 1)
        return dict(zip(self.videos, last.tolist(), strict=True))


def header_of(task: Task, form: Form) -> str:
    """Header of a task's files in this form; empty if it has none."""
    return task.submission.images if form == "images" else task.submission.videos


def headers_of(form: Form) -> dict[str, str]:
    """Headers of files in this form by task; tasks without such files are left out."""
    headers = {task.name: header_of(task, form) for task in TASKS.values()}
    return {name: header for name, header in headers.items() if header}


def task_of_header(header: str, form: Form) -> Task | None:
    """The task whose header this is; case and spaces do not matter."""
    return next((TASKS[name] for name in headers_of(form) if is_title(header, TASKS[name], form)), None)


def is_title(line: str, task: Task, form: Form) -> bool:
    """True for the header of a task's files; case and spaces do not matter."""
    known = header_of(task, form).replace(" ", "").lower()
    return bool(known) and line.replace(" ", "").strip().lower() == known


def near_header(header: str, *forms: Form) -> str:
    """A sentence with the known header that shares half of its cells or more with this one; empty without such."""
    known = {line: name for form in forms for name, line in headers_of(form).items()}
    known |= {task.submission.rows.header: task.name for task in TASKS.values() if task.submission.rows}
    line = max(known, key=lambda line: _shared(header, line), default="")
    return f"It is most like that of {known[line]}, {line!r}. " if _shared(header, line) >= LEAST_SHARED else ""


def _shared(header: str, other: str) -> float:
    """The share of cells that two headers have in common."""
    first, second = ({cell.strip().casefold() for cell in line.split(",") if cell.strip()} for line in (header, other))
    return len(first & second) / max(1, len(first), len(second))


def locate_frames(path: Path, images: Sequence[str]) -> FrameRows:
    """Video and row of images named `<video>/<frame number>.jpg`; names of videos are those of the store.

    Raises:
        DataError: an image has another kind of name; names file and line.
    """

    names: dict[str, str] = {}  # composed names by the name as written

    def pairs() -> Iterable[tuple[str, int]]:
        for line, image in enumerate(images, start=2):
            match = IMAGE.fullmatch(image)
            number = int(match[2]) if match else 0
            if match is None or not 1 <= number <= LAST_FRAME:
                raise DataError(
                    f"{path} line {line}: the image should be <video>/<frame number>.jpg with a number from 1 to "
                    f"{LAST_FRAME}, found {image[:60]!r}. Correct the line."
                )
            if match[1] not in names:
                names[match[1]] = composed(match[1])
            yield names[match[1]], number - 1

    return FrameRows.of(pairs())


def format_values(task: Task, answers: NDArray) -> list[str]:
    """The text of each row after the image: real numbers with six digits and clipped to their range, others as integers.

    Args:
        answers: (rows, columns) in the form of labels, see `abaw.evaluate.scores.metrics.decide`.
    """
    values = answers.astype(np.float64)
    cells = []
    for part, _, columns in task.each():
        cells += [f"{{:.{DIGITS}f}}" if part.kind == "regression" else "{:.0f}"] * len(part.columns)
        # rounded here, and 0 added, so that there is no "-0.000000"
        values[:, columns] = np.clip(values[:, columns], part.low, part.high).round(DIGITS) + part.first_class + 0.0
    template = ",".join(cells)
    return [template.format(*row) for row in values.tolist()]


def check_has_form(task: Task, form: Form) -> None:
    """Raise a UsageError if a task has no submission files of a form."""
    if task.whole:
        raise UsageError(
            f"The run predicts {' and '.join(task.outputs)} alone, and files of task {task.whole} need all of its outputs. "
            "Combine it with runs of the others by `abaw ensemble`."
        )
    if not header_of(task, form):
        known = ", ".join(headers_of(form))
        raise UsageError(f"Task {task.name} has no format for {FORMS[form]}; tasks with one: {known}.")
