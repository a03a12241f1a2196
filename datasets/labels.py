"""Label files of the challenges: one text file per video, a header, then one row per frame."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from abaw.core.errors import DataError
from abaw.core.names import composed
from abaw.core.tasks import EXPRESSIONS, TASKS, Task
from abaw.datasets.folders import LABEL_SUFFIX, files_in
from abaw.media.text_files import read_blocks

COMPOUND = (
    *("Fearfully_Surprised", "Happily_Surprised", "Sadly_Surprised", "Disgustedly_Surprised", "Angrily_Surprised"),
    *("Sadly_Fearful", "Sadly_Angry"),
)
# Headers of editions whose labels are of other classes or units.
EDITIONS = {
    "the 1st and 2nd ABAW competition (2020, 2021), with seven expressions and no Other": ",".join(EXPRESSIONS[:-1]),
    "the 1st ABAW competition (2020), with eight action units": "AU1,AU2,AU4,AU6,AU12,AU15,AU20,AU25",
    "the compound expressions of the 7th to 9th ABAW competition": ",".join(COMPOUND),
}
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?", re.IGNORECASE)


@dataclass(frozen=True)
class LabelFile:
    """A label file: its task, its split ("train" or "val"), the video it is about."""

    task: str
    split: str
    video: str
    path: Path

    def read(self) -> NDArray:
        """Labels as published: (rows, columns), float32 for `va`, int8 for the others; row i is frame i+1.

        Raises:
            DataError: a header, a number of columns or a value that the task does not have; names file and line.
        """
        return read_labels(self.path, TASKS[self.task])


def find_labels(folders: Iterable[tuple[str, str, Path]]) -> Iterator[LabelFile]:
    """The label files in folders, each with its task and split; see `abaw.datasets.folders`."""
    for task, split, folder in folders:
        for path in files_in(folder, [LABEL_SUFFIX]):
            yield LabelFile(task, split, composed(path.stem), path)


def read_labels(path: Path, task: Task) -> NDArray:
    """Parse and check one label file; see `LabelFile.read`."""
    assert task.labels is not None
    blocks = read_blocks(path)
    header, *lines = next(blocks, [""])
    check_header(path, header, task.labels.header)
    found, number = [], 2
    for block in chain([lines], blocks):
        if block:
            found.append(_parse(path, block, number, task))
            number += len(block)
    if not found:
        raise DataError(f"{path} has a header and no rows. Copy it again.")
    return np.concatenate(found)


def _parse(path: Path, lines: list[str], first: int, task: Task) -> NDArray:
    """Rows of some lines of a label file, of which the first has the number `first`."""
    if "" in lines:  # np.loadtxt leaves it out, and what follows would move up
        raise _first_bad_line(path, lines, first, task)
    try:
        rows = np.loadtxt(lines, delimiter=",", dtype=np.float64, ndmin=2, comments=None)
    except ValueError:
        raise _first_bad_line(path, lines, first, task) from None
    if rows.shape != (len(lines), len(task.columns)) or not fits(rows, task).all():
        raise _first_bad_line(path, lines, first, task)
    return rows.astype(np.float32 if task.kind == "regression" else np.int8)


def check_header(path: Path, header: str, wanted: str) -> None:
    """Raises a DataError if the first line of a label file is another one; case and spaces do not matter."""
    found = header.strip().replace(" ", "").lower()
    if found == wanted.lower():
        return
    edition = next((edition for edition, line in EDITIONS.items() if line.lower() == found), "")
    if edition:
        raise DataError(
            f"{path} line 1: this is the header of {edition}; the one wanted is {wanted!r}. Take the label files of the "
            "edition that you work on, and move this folder away."
        )
    shown = header.strip()[:60]
    raise DataError(f"{path} line 1: the header should be {wanted!r}, found {shown!r}. Put the header back.")


def fits(rows: NDArray, task: Task) -> NDArray[np.bool_]:
    """True where a value is one that a task has, its invalid value included.

    Args:
        rows: (..., columns) float64.
    """
    found = np.empty(rows.shape, dtype=np.bool_)
    for part, _, columns in task.each():
        values = rows[..., columns]
        inside = (values >= part.low) & (values <= part.high)
        if part.kind != "regression":
            inside &= values == np.floor(values)
        found[..., columns] = inside | (values == part.invalid)
    return found


def check_values(texts: Sequence[str], task: Task) -> str:
    """What is wrong with the first value of a row that a task does not have; empty if nothing is.

    Args:
        texts: one for each column of the task.
    """
    for part, _, columns in task.each():
        allowed = f"{part.low:g} to {part.high:g}, or {part.invalid:g} where there is none"
        for column, text in zip(task.columns[columns], texts[columns], strict=True):
            if not _is_value(text, part):
                return f"{column} should be {allowed}, found {text.strip()[:30]!r}"
    return ""


def _is_value(text: str, task: Task) -> bool:
    number = text.strip()
    # float() takes 1_0 for 10, and the digits of all scripts
    return bool(NUMBER.fullmatch(number)) and bool(fits(np.full(len(task.columns), float(number)), task)[0])


def _first_bad_line(path: Path, lines: list[str], first: int, task: Task) -> DataError:
    for number, line in enumerate(lines, start=first):
        values = line.split(",") if line.strip() else []
        if len(values) != len(task.columns):
            return DataError(
                f"{path} line {number}: {len(task.columns)} values are wanted ({','.join(task.columns)}), found "
                f"{len(values)}: {line.strip()[:60]!r}. Correct the line."
            )
        if wrong := check_values(values, task):
            return DataError(f"{path} line {number}: {wrong}. Correct the line.")
    return DataError(f"{path} cannot be read as rows of {','.join(task.columns)}. Copy it again.")
