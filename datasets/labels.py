"""Label files of the challenges: one text file per video, a header, then one row per frame."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from abaw.errors import DataError
from abaw.tasks import ACTION_UNITS, EXPRESSIONS, TASKS, Task

# The folders of each task; the organisers renamed one of them over the years.
FOLDERS = {
    "va": ("VA_Estimation_Challenge",),
    "expr": ("EXPR_Classification_Challenge", "EXPR_Recognition_Challenge"),
    "au": ("AU_Detection_Challenge",),
}
HEADERS = {"va": ("valence", "arousal"), "expr": EXPRESSIONS, "au": ACTION_UNITS}
SPLITS = {"train": "Train_Set", "val": "Validation_Set"}


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


def find_labels(root: Path) -> Iterator[LabelFile]:
    """Label files at the root or under `labels/`, in the folders of the challenges."""
    for task, folders in FOLDERS.items():
        for folder in folders:
            for split, split_folder in SPLITS.items():
                for place in (root / folder, root / "labels" / folder):
                    for path in sorted((place / split_folder).glob("[!.]*.txt")):
                        yield LabelFile(task, split, path.stem, path)


def read_labels(path: Path, task: Task) -> NDArray:
    """Parse and check one label file; see `LabelFile.read`."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as text ({error}). Copy it again.") from error
    header, _, body = text.partition("\n")
    _check_header(path, header, task)
    lines = body.rstrip().splitlines()
    if not lines:
        raise DataError(f"{path} has a header and no rows. Copy it again.")
    try:
        rows = np.loadtxt(io.StringIO(body), delimiter=",", dtype=np.float64, ndmin=2, comments=None)
    except ValueError:
        raise _first_bad_line(path, lines, task) from None
    # an empty line in the middle would shift all that follows
    if rows.shape != (len(lines), len(task.columns)) or not _in_range(rows, task).all():
        raise _first_bad_line(path, lines, task)
    return rows.astype(np.float32 if task.kind == "regression" else np.int8)


def _check_header(path: Path, header: str, task: Task) -> None:
    wanted = ",".join(HEADERS[task.name])
    if header.strip().replace(" ", "").lower() != wanted.lower():
        shown = header.strip()[:60]
        raise DataError(f"{path} line 1: the header should be {wanted!r}, found {shown!r}. Put the header back.")


def _in_range(rows: NDArray, task: Task) -> NDArray[np.bool_]:
    fits = (rows >= task.low) & (rows <= task.high)
    if task.kind != "regression":
        fits &= rows == np.floor(rows)
    return fits | (rows == task.invalid)


def _first_bad_line(path: Path, lines: list[str], task: Task) -> DataError:
    allowed = f"{task.low:g} to {task.high:g}, or {task.invalid:g} where there is none"
    for number, line in enumerate(lines, start=2):
        values = line.split(",") if line.strip() else []
        if len(values) != len(task.columns):
            return DataError(
                f"{path} line {number}: {len(task.columns)} values are wanted ({','.join(task.columns)}), found "
                f"{len(values)}: {line.strip()[:60]!r}. Correct the line."
            )
        for column, text in zip(task.columns, values, strict=True):
            try:
                fits = bool(_in_range(np.array(float(text)), task))
            except ValueError:
                fits = False
            if not fits:
                return DataError(
                    f"{path} line {number}: {column} should be {allowed}, found {text.strip()[:30]!r}. Correct the line."
                )
    return DataError(f"{path} cannot be read as rows of {','.join(task.columns)}. Copy it again.")
