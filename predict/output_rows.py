"""Predictions of a video as rows, one for each frame and each person seen in it, and the files that hold them."""

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from abaw.core.csv_cells import as_cell
from abaw.core.tasks import Task
from abaw.evaluate.prediction_table import output_arrays, output_columns

CSV, JSON = "predictions.csv", "predictions.json"
BOX = ("left", "top", "right", "bottom")

Value = float | int | str


@dataclass(frozen=True)
class OutputRow:
    """The prediction for one person in one frame.

    Attributes:
        frame: its number in the file, from 1 as in the names of crops.
        time_s: its time by the clock of the file.
        person: name of the person; the video's name if there is only one person. See `abaw prepare`.
        outputs: by column, see `abaw.evaluate.prediction_table.output_columns`.
        box: left, top, right and bottom of the face in pixels of the frame; it may extend beyond the frame.
    """

    frame: int
    time_s: float
    person: str
    outputs: Mapping[str, Value]
    box: tuple[float, float, float, float]


def output_values(task: Task, outputs: NDArray[np.float32]) -> dict[str, Value]:
    """Values of the columns of one frame.

    Args:
        outputs: (outputs,) of a head or of post-processing; see `output_arrays`.
    """
    return {name: values.tolist()[0] for name, values in output_arrays(task, outputs[None]).items()}


def row_columns(task: Task) -> tuple[str, ...]:
    """Names of the columns of a table of rows."""
    return ("frame", "time_s", "person", *output_columns(task), *BOX)


def row_cells(task: Task, row: OutputRow) -> list[str]:
    """The cells of these columns for a row."""
    values = [row.outputs[name] for name in output_columns(task)]
    texts = [f"{value:.6f}" if isinstance(value, float) else str(value) for value in values]
    return [str(row.frame), f"{row.time_s:.6f}", str(as_cell(row.person)), *texts, *(f"{side:.2f}" for side in row.box)]


@contextmanager
def row_writer(folder: Path, task: Task, head: Mapping[str, Any]) -> Iterator[Callable[[OutputRow], None]]:
    """Open `predictions.csv` and `predictions.json`; gives a function that adds a row to both.

    The files have the same columns. They are complete when the context ends.

    Args:
        head: what the JSON file has in front of the rows.
    """
    names, columns = output_columns(task), row_columns(task)
    with (
        (folder / CSV).open("w", newline="", encoding="utf-8") as table,
        (folder / JSON).open("w", encoding="utf-8") as tree,
    ):
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(columns)
        tree.write(begin_of_json({**head, "columns": columns}) + ',\n "rows": [')
        separator = "\n"

        def write(row: OutputRow) -> None:
            nonlocal separator
            writer.writerow(row_cells(task, row))
            values = [row.outputs[name] for name in names]
            numbers = [round(value, 6) if isinstance(value, float) else value for value in values]
            box = [round(side, 2) for side in row.box]
            tree.write(separator + json.dumps([row.frame, round(row.time_s, 6), row.person, *numbers, *box]))
            separator = ",\n"

        yield write
        tree.write("\n ]\n}\n")


def begin_of_json(head: Mapping[str, Any]) -> str:
    """The first characters of a `predictions.json` with this head."""
    return json.dumps(head, indent=1).removesuffix("\n}")
