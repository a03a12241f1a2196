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
from scipy.special import expit, softmax

from abaw.core.tasks import Task
from abaw.evaluate.scores.metrics import decide

CSV, JSON = "predictions.csv", "predictions.json"
BOX = ("left", "top", "right", "bottom")
SUFFIX = "_probability"

Value = float | int | str


@dataclass(frozen=True)
class OutputRow:
    """The prediction for one person in one frame.

    Attributes:
        frame: its number in the file, from 1 as in the names of crops.
        time_s: its time by the clock of the file.
        person: name of the person; the video's name if there is only one person. See `abaw prepare`.
        outputs: by column, see `output_columns`.
        box: left, top, right and bottom of the face in pixels of the frame; it may extend beyond the frame.
    """

    frame: int
    time_s: float
    person: str
    outputs: Mapping[str, Value]
    box: tuple[float, float, float, float]


def output_columns(task: Task) -> tuple[str, ...]:
    """Names of the columns of a task, in order.

    Valence and arousal have their values; expressions the name of the most likely one, then the probability of each;
    action units 0 or 1 each, then their probabilities.
    """
    columns: list[str] = []
    for part, _, _ in task.each():
        if part.kind == "regression":
            columns += part.outputs
        else:
            columns += part.columns if part.kind == "classes" else part.outputs
            columns += [f"{name}{SUFFIX}" for name in part.outputs]
    return tuple(columns)


def output_values(task: Task, outputs: NDArray[np.float32]) -> dict[str, Value]:
    """Values of the columns of one frame.

    Args:
        outputs: (outputs,) of a head or of post-processing. Probabilities are computed from these: an action unit is on
            above one half, and the class with the largest probability is named.
    """
    values: dict[str, Value] = {}
    for part, columns, _ in task.each():
        logits = outputs[columns].astype(np.float64)
        answer = decide(part, logits[None])[0]
        if part.kind == "regression":
            values |= {name: float(value) for name, value in zip(part.outputs, answer, strict=True)}
            continue
        if part.kind == "classes":
            values[part.columns[0]] = part.outputs[int(answer[0])]
        else:
            values |= {name: int(value) for name, value in zip(part.outputs, answer, strict=True)}
        probabilities = softmax(logits) if part.kind == "classes" else expit(logits)
        values |= {f"{name}{SUFFIX}": float(value) for name, value in zip(part.outputs, probabilities, strict=True)}
    return values


@contextmanager
def row_writer(folder: Path, task: Task, head: Mapping[str, Any]) -> Iterator[Callable[[OutputRow], None]]:
    """Open `predictions.csv` and `predictions.json`; gives a function that adds a row to both.

    The files have the same columns. They are complete when the context ends.

    Args:
        head: what the JSON file has in front of the rows.
    """
    names = output_columns(task)
    columns = ("frame", "time_s", "person", *names, *BOX)
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
            values = [row.outputs[name] for name in names]
            texts = [f"{value:.6f}" if isinstance(value, float) else value for value in values]
            writer.writerow([row.frame, f"{row.time_s:.6f}", row.person, *texts, *(f"{side:.2f}" for side in row.box)])
            numbers = [round(value, 6) if isinstance(value, float) else value for value in values]
            box = [round(side, 2) for side in row.box]
            tree.write(separator + json.dumps([row.frame, round(row.time_s, 6), row.person, *numbers, *box]))
            separator = ",\n"

        yield write
        tree.write("\n ]\n}\n")


def begin_of_json(head: Mapping[str, Any]) -> str:
    """The first characters of a `predictions.json` with this head."""
    return json.dumps(head, indent=1).removesuffix("\n}")
