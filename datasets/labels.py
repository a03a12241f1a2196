"""Label files of the challenges: one text file per video, a header, then one row per frame."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from abaw.core.errors import DataError, did_you_mean
from abaw.core.names import composed
from abaw.core.tasks import EXPRESSIONS, TASKS, Task
from abaw.datasets.folders import LABEL_SUFFIX, files_in
from abaw.media.text_files import read_blocks

COMPOUND = (
    *("Fearfully_Surprised", "Happily_Surprised", "Sadly_Surprised", "Disgustedly_Surprised", "Angrily_Surprised"),
    *("Sadly_Fearful", "Sadly_Angry"),
)
# Headers of editions with other classes or action units.
EDITIONS = {
    "the 1st and 2nd ABAW competition (2020, 2021), with seven expressions and no Other": ",".join(EXPRESSIONS[:-1]),
    "the 1st ABAW competition (2020), with eight action units": "AU1,AU2,AU4,AU6,AU12,AU15,AU20,AU25",
    "the compound expressions of the 7th to 9th ABAW competition": ",".join(COMPOUND),
}
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?", re.IGNORECASE)


@dataclass(frozen=True)
class LabelFile:
    """A label file of one task, split ("train" or "val") and video.

    Attributes:
        parse: reads the file; None for one in the official layout.
    """

    task: str
    split: str
    video: str
    path: Path
    parse: Callable[[Path], NDArray] | None = None

    def read(self) -> NDArray:
        """Labels as published: (rows, columns), float32 for real numbers, int8 for others; row i is frame i+1.

        Raises:
            DataError: a wrong header, number of columns or value; the message names file and line.
        """
        return self.parse(self.path) if self.parse else read_labels(self.path, TASKS[self.task])


def find_labels(folders: Iterable[tuple[str, str, Path]]) -> Iterator[LabelFile]:
    """Label files in folders, which are given with their task and split; see `abaw.datasets.folders`."""
    for task, split, folder in folders:
        for path in files_in(folder, [LABEL_SUFFIX]):
            yield LabelFile(task, split, composed(path.stem), path)


def read_labels(path: Path, task: Task) -> NDArray:
    """Parse and check one label file; see `LabelFile.read`."""
    assert task.labels is not None
    blocks = read_blocks(path)
    header, *lines = next(blocks, [""])
    check_header(path, header, task.labels.header)
    parts, number = [], 2
    for block in chain([lines], blocks):
        if block:
            parts.append(_parse(path, block, number, task))
            number += len(block)
    if not parts:
        raise DataError(f"{path} has a header but no rows. Copy it again.")
    return np.concatenate(parts)


def _parse(path: Path, lines: list[str], first: int, task: Task) -> NDArray:
    """Parse lines of a label file; `first` is the number of the first one."""
    if "" in lines:  # np.loadtxt skips blank lines, which would shift all rows after them
        raise _first_bad_line(path, lines, first, task)
    try:
        rows = np.loadtxt(lines, delimiter=",", dtype=np.float64, ndmin=2, comments=None)
    except ValueError:
        raise _first_bad_line(path, lines, first, task) from None
    if rows.shape != (len(lines), len(task.columns)) or not fits(rows, task).all():
        raise _first_bad_line(path, lines, first, task)
    return rows.astype(np.float32 if task.kind == "regression" else np.int8)


def check_header(path: Path, header: str, expected: str) -> None:
    """Raise a DataError if the first line of a label file is not `expected`; case and spaces do not matter."""
    normalised = header.strip().replace(" ", "").lower()
    if normalised == expected.replace(" ", "").lower():
        return
    edition = next((edition for edition, line in EDITIONS.items() if line.lower() == normalised), "")
    if edition:
        raise DataError(
            f"{path} line 1: this is the header of {edition}; expected {expected!r}. Use the label files of the "
            "edition that you work on, and move this folder away."
        )
    shown = header.strip()[:60]
    raise DataError(f"{path} line 1: the header should be {expected!r}, found {shown!r}. Restore the header.")


def fits(rows: NDArray, task: Task) -> NDArray[np.bool_]:
    """True where a value is allowed in a task; its invalid value is allowed, too.

    Args:
        rows: (..., columns) float64.
    """
    allowed = np.empty(rows.shape, dtype=np.bool_)
    for part, _, columns in task.each():
        values = rows[..., columns]
        inside = (values >= part.low) & (values <= part.high)
        if part.kind != "regression":
            inside &= values == np.floor(values)
        allowed[..., columns] = inside | (values == part.invalid)
    return allowed


def check_values(texts: Sequence[str], task: Task, shown: Sequence[str] = ()) -> str:
    """Describe the first invalid value of a row; empty if all are valid.

    Args:
        texts: one value for each column of the task.
        shown: the cells that they come from, where these count or name classes; by default the values.
    """
    for part, _, columns in task.each():
        first = part.first_class
        allowed = f"{part.low + first:g} to {part.high + first:g}, or {part.invalid:g} if not annotated"
        cells = zip(task.columns[columns], texts[columns], (shown or texts)[columns], strict=True)
        for column, text, cell in cells:
            if not _is_value(text, part):
                is_named = part.kind == "classes" and not NUMBER.fullmatch(cell.strip())
                near = did_you_mean(cell.strip(), part.outputs).strip() if is_named else ""
                return f"{column} should be {allowed}, found {cell.strip()[:30]!r}{f'; {near[0].lower()}{near[1:-1]}' if near else ''}"
    return ""


def _is_value(text: str, task: Task) -> bool:
    number = text.strip()
    # float() reads 1_0 as 10, and accepts the digits of all scripts
    return bool(NUMBER.fullmatch(number)) and bool(fits(np.full(len(task.columns), float(number)), task)[0])


def _first_bad_line(path: Path, lines: list[str], first: int, task: Task) -> DataError:
    for number, line in enumerate(lines, start=first):
        values = line.split(",") if line.strip() else []
        if len(values) != len(task.columns):
            return DataError(
                f"{path} line {number}: {len(task.columns)} values expected ({','.join(task.columns)}), found "
                f"{len(values)}: {line.strip()[:60]!r}. Correct the line."
            )
        if wrong := check_values(values, task):
            return DataError(f"{path} line {number}: {wrong}. Correct the line.")
    return DataError(f"{path} cannot be read as rows of {','.join(task.columns)}. Copy it again.")
