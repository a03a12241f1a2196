"""Predictions of a video as rows, one for each frame and each person who is seen in it, and the files of them."""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax

from abaw.core.tasks import Task
from abaw.evaluate.scores.metrics import decide

CSV, JSON = "predictions.csv", "predictions.json"
PLACE = ("left", "top", "right", "bottom")
SUFFIX = "_probability"

Value = float | int | str


@dataclass(frozen=True)
class OutputRow:
    """What a person shows in a frame.

    Attributes:
        frame: number in the file, from 1 as in the names of crops.
        time_s: when it is shown, by the clock of the file.
        person: name of the person, that of the video if there is only one; see `abaw prepare`.
        outputs: by column, see `output_columns`.
        box: left, top, right and bottom of the face in pixels of the frame; it may reach beyond it.
    """

    frame: int
    time_s: float
    person: str
    outputs: Mapping[str, Value]
    box: tuple[float, float, float, float]


def output_columns(task: Task) -> tuple[str, ...]:
    """Names of what a task says of a face, in order.

    Of valence and arousal the value; of expressions the name of the likeliest, then the probability of each; of action
    units 0 or 1 each, then their probabilities.
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
        outputs: (outputs,) as a head gives them or post-processing leaves them. Probabilities are of these: one half is
            where an action unit turns on, and the largest is the class that is named.
    """
    values: dict[str, Value] = {}
    for part, given, _ in task.each():
        own = outputs[given].astype(np.float64)
        answer = decide(part, own[None])[0]
        if part.kind == "regression":
            values |= {name: float(value) for name, value in zip(part.outputs, answer, strict=True)}
            continue
        if part.kind == "classes":
            values[part.columns[0]] = part.outputs[int(answer[0])]
        else:
            values |= {name: int(value) for name, value in zip(part.outputs, answer, strict=True)}
        shares = softmax(own) if part.kind == "classes" else expit(own)
        values |= {f"{name}{SUFFIX}": float(share) for name, share in zip(part.outputs, shares, strict=True)}
    return values


def write_rows(folder: Path, task: Task, head: Mapping[str, Any], rows: Iterable[OutputRow]) -> Iterator[OutputRow]:
    """Write rows to `predictions.csv` and `predictions.json` as they pass; both have the same columns.

    Args:
        head: what the JSON file tells beside its rows.
    """
    names = output_columns(task)
    columns = ("frame", "time_s", "person", *names, *PLACE)
    with (
        (folder / CSV).open("w", newline="", encoding="utf-8") as table,
        (folder / JSON).open("w", encoding="utf-8") as tree,
    ):
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(columns)
        tree.write(begin_of_json({**head, "columns": columns}) + ',\n "rows": [')
        comma = "\n"
        for row in rows:
            values = [*(row.outputs[name] for name in names)]
            texts = [f"{value:.6f}" if isinstance(value, float) else value for value in values]
            place = [f"{value:.2f}" for value in row.box]
            writer.writerow([row.frame, f"{row.time_s:.6f}", row.person, *texts, *place])
            numbers = [round(value, 6) if isinstance(value, float) else value for value in values]
            box = [round(value, 2) for value in row.box]
            tree.write(comma + json.dumps([row.frame, round(row.time_s, 6), row.person, *numbers, *box]))
            comma = ",\n"
            yield row
        tree.write("\n ]\n}\n")


def begin_of_json(head: Mapping[str, Any]) -> str:
    """How `predictions.json` begins that tells these things first."""
    return json.dumps(head, indent=1).removesuffix("\n}")
