"""Reading submission files: their rows, and mistakes in their values."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from abaw.core.errors import DataError
from abaw.core.tasks import Task
from abaw.evaluate.submission.formats import Form
from abaw.media.text_files import read_lines

NUMBER = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")


@dataclass(frozen=True)
class SubmittedRows:
    """A submission file, read but not checked; row i is line i + 2.

    Attributes:
        path: the file.
        header: its first line; empty if the file is empty.
        lines: the lines after it.
        images: the image that each row names; empty in a file of one video.
        texts: the text of each row's values.
    """

    path: Path
    header: str
    lines: Sequence[str]
    images: Sequence[str]
    texts: Sequence[str]

    def mistakes(self, task: Task) -> Iterator[tuple[int, str]]:
        """Line number and a clause for each row whose values are not valid for a task.

        Every distinct text is checked once, since most rows of classes and action units are equal.
        """
        problems = {text: sentence for text in set(self.texts) if (sentence := wrong_with(text, task))}
        for number, text in enumerate(self.texts if problems else (), start=2):
            if text in problems:
                yield number, problems[text]

    def values(self, task: Task) -> NDArray[np.float32]:
        """(rows, columns) in the form of labels.

        Raises:
            DataError: a row has values that are not valid for the task; names the line.
        """
        for number, sentence in self.mistakes(task):
            line = self.lines[number - 2][:60]
            raise DataError(f"{self.path} line {number}: {sentence}: {line!r}. Correct the line.")
        distinct = {text: number for number, text in enumerate(dict.fromkeys(self.texts))}
        values = as_labels([text.split(",") for text in distinct], task)
        return values[[distinct[text] for text in self.texts]]


def read_rows(path: Path, form: Form) -> SubmittedRows:
    """Read a file with a row for each image, or the file of one video.

    Raises:
        DataError: it is missing, or cannot be read as text.
    """
    header, *lines = read_lines(path) or [""]
    if form == "videos":
        return SubmittedRows(path, header, lines, (), lines)
    cells = [line.partition(",") for line in lines]
    return SubmittedRows(path, header, lines, [image for image, _, _ in cells], [text for _, _, text in cells])


def as_labels(rows: Sequence[Sequence[str]], task: Task) -> NDArray[np.float32]:
    """(rows, columns) in the form of labels, whose classes count from 0, of cells in which `wrong_with` finds nothing."""
    values = np.array(rows, dtype=np.float64).reshape(-1, len(task.columns))
    for part, _, columns in task.each():
        values[:, columns] -= part.first_class
    return values.astype(np.float32)


def wrong_with(text: str, task: Task) -> str:
    """The first problem in the text of a row's values: their number, or an invalid value; empty if all are valid."""
    if _usual_values(task).fullmatch(text):
        return ""
    values = text.split(",")
    if len(values) != len(task.columns):
        return wrong_columns(task)
    for part, _, columns in task.each():
        for column, value in zip(part.columns, values[columns], strict=True):
            if not _is_value(value, part):
                return f"{column} should be {_allowed(part)}, found {value[:30]!r}"
    return ""


def wrong_columns(task: Task) -> str:
    """The problem that `wrong_with` reports for too few or too many values."""
    if len(task.columns) == 1:
        return f"one value is expected ({task.columns[0]})"
    return f"{len(task.columns)} values separated by commas are expected ({', '.join(task.columns)})"


@cache
def _usual_values(task: Task) -> re.Pattern[str]:
    """Matches most valid rows, so that a million of them take no time; others are checked value by value."""
    cells = (
        cell
        for part, _, _ in task.each()
        for cell in [_usual_number(part) if part.kind == "regression" else _usual_class(part)] * len(part.columns)
    )
    return re.compile(",".join(cells))


def _usual_number(part: Task) -> str:
    """Matches numbers below 1 if all of them are in range, else nothing."""
    if part.low > 0 or part.high < 1:
        return "(?!)"
    return r"-?0\.[0-9]+" if part.low <= -1 else r"0\.[0-9]+"


def _usual_class(part: Task) -> str:
    """Matches the numbers of the first classes that have one digit."""
    first, last = _classes(part)[0], _classes(part)[-1]
    return f"[{first}-{min(last, 9)}]"


def _is_value(text: str, part: Task) -> bool:
    if part.kind == "regression":
        return bool(NUMBER.fullmatch(text)) and part.low <= float(text) <= part.high
    return text in {str(value) for value in _classes(part)}


def _allowed(part: Task) -> str:
    if part.kind == "regression":
        return f"a number from {part.low:g} to {part.high:g}"
    first, last = _classes(part)[0], _classes(part)[-1]
    return f"{first} or {last}" if part.kind == "binary" else f"an integer from {first} to {last}"


def _classes(part: Task) -> range:
    """The numbers of classes in files, 0 and 1 of binary outputs."""
    return range(int(part.low) + part.first_class, int(part.high) + part.first_class + 1)
