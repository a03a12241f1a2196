"""The traces of a video over time: down-sampled so that peaks survive, quantised and packed.

A video of up to `MAX_POINTS` rows keeps every row. A longer one is cut into `N_BUCKETS` equal spans, each of which keeps
two values in order of time: the smallest and the largest, or the two most frequent classes.
"""

import base64
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax

from abaw.core.tasks import Task
from abaw.evaluate.predictions import VideoPrediction
from abaw.evaluate.scores.metrics import decide

N_BUCKETS = 1000
MAX_POINTS = 2 * N_BUCKETS
VALUE_SCALE, NO_VALUE = 32_000, -32_768  # int16: the largest real number, and a missing one
SHARE_SCALE, NO_SHARE = 250, 255  # uint8: probabilities; classes and 0/1 labels are not scaled
LABEL = -1  # in place of the number of a run

Type = Literal["i2", "u1"]
Traces = Mapping[str, NDArray]  # by name


@dataclass(frozen=True)
class Column:
    """One trace of every video.

    Attributes:
        part: name of the plain task; empty for `present`.
        run: number of the run, or LABEL.
        name: an output, `class` (its number), `top` (its probability), or `present`.
        type: `i2` little-endian int16 or `u1` uint8.
    """

    part: str
    run: int
    name: str
    type: Type


def columns_of(task: Task, n_runs: int) -> list[Column]:
    """The traces of a task in the order in which they are packed: int16 first, so that they are aligned."""
    columns = [Column("", LABEL, "present", "u1")]
    for part, _, _ in task.each():
        for run in range(LABEL, n_runs):
            if part.kind == "classes":
                columns += [Column(part.name, run, name, "u1") for name in ("class", "top")[: 1 if run == LABEL else 2]]
            else:
                columns += [
                    Column(part.name, run, name, "i2" if part.kind == "regression" else "u1") for name in part.outputs
                ]
    return sorted(columns, key=lambda column: column.type)


def value_scale(task: Task) -> float:
    """Factor from real numbers to int16; it is 32000 for tasks within -1 and 1."""
    ends = [abs(end) for part, _, _ in task.each() if part.kind == "regression" for end in (part.low, part.high)]
    return VALUE_SCALE / max([1.0, *ends])


def n_points(n_rows: int) -> int:
    """Number of values of each trace."""
    return n_rows if n_rows <= MAX_POINTS else MAX_POINTS


def pack(task: Task, columns: Sequence[Column], predictions: Sequence[VideoPrediction | None]) -> dict[str, Any]:
    """The traces of a video: its `rows`, `fps`, the number of `points` of each trace, and the points as `data`.

    `data` is base64 of zlib of the columns, one after another.

    Args:
        predictions: of each run; None where a run lacks the video, or has other frames.
    """
    first = next(prediction for prediction in predictions if prediction is not None)
    n_rows, scale = len(first.outputs), value_scale(task)
    drawn: dict[tuple[str, int], Traces] = {("", LABEL): {"present": _present(first.present)}}
    for part, outputs, labels in task.each():
        drawn[part.name, LABEL] = _label_traces(part, first.labels[:, labels], scale)
        for run, prediction in enumerate(predictions):
            drawn[part.name, run] = (
                {} if prediction is None else _output_traces(part, prediction.outputs[:, outputs], scale)
            )
    missing = {"i2": np.full(n_points(n_rows), NO_VALUE, "<i2"), "u1": np.full(n_points(n_rows), NO_SHARE, np.uint8)}
    parts = [drawn[column.part, column.run].get(column.name, missing[column.type]) for column in columns]
    data = zlib.compress(b"".join(part.tobytes() for part in parts), 6)
    return {
        "rows": n_rows,
        "fps": first.fps,
        "points": n_points(n_rows),
        "data": base64.b64encode(data).decode("ascii"),
    }


def _label_traces(part: Task, labels: NDArray[np.float32], scale: float) -> Traces:
    shown = np.where(part.valid(labels), labels, np.nan).astype(np.float64)
    if part.kind == "classes":
        return {"class": commonest(np.where(np.isnan(shown[:, 0]), NO_SHARE, shown[:, 0]).astype(np.uint8))}
    if part.kind == "regression":
        return {name: _as_values(shown[:, i], scale) for i, name in enumerate(part.outputs)}
    return {name: _as_shares(shown[:, i], 1) for i, name in enumerate(part.outputs)}


def _output_traces(part: Task, outputs: NDArray[np.float32], scale: float) -> Traces:
    if part.kind == "classes":
        top = softmax(outputs.astype(np.float64), axis=1).max(axis=1)
        return {"class": commonest(decide(part, outputs)[:, 0].astype(np.uint8)), "top": _as_shares(top, SHARE_SCALE)}
    if part.kind == "regression":
        answers = decide(part, outputs).astype(np.float64)
        return {name: _as_values(answers[:, i], scale) for i, name in enumerate(part.outputs)}
    shares = expit(outputs.astype(np.float64))
    return {name: _as_shares(shares[:, i], SHARE_SCALE) for i, name in enumerate(part.outputs)}


def _as_values(values: NDArray[np.float64], scale: float) -> NDArray[np.int16]:
    points = np.rint(extremes(values) * scale)
    return np.where(np.isnan(points), NO_VALUE, points).astype("<i2")


def _as_shares(values: NDArray[np.float64], scale: int) -> NDArray[np.uint8]:
    points = np.rint(extremes(values) * scale)
    return np.where(np.isnan(points), NO_SHARE, points).astype(np.uint8)


def _present(present: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """1 where all rows of a bucket have a crop, so that no gap is lost."""
    if len(present) <= MAX_POINTS:
        return present.astype(np.uint8)
    return np.repeat(np.logical_and.reduceat(present, _edges(len(present))[:-1]), 2).astype(np.uint8)


def _edges(n_rows: int) -> NDArray[np.int64]:
    """(N_BUCKETS + 1,) first rows of the buckets, and the end."""
    return np.arange(N_BUCKETS + 1) * n_rows // N_BUCKETS


def _buckets(n_rows: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """(N_BUCKETS, longest) rows of each bucket, and False where a row is beyond its end."""
    edges = _edges(n_rows)
    rows = edges[:-1, None] + np.arange(int(np.diff(edges).max()))
    return np.minimum(rows, n_rows - 1), rows < edges[1:, None]


def extremes(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The smallest and the largest value of each bucket in order of time; NaN is ignored.

    Args:
        values: (rows,).

    Returns:
        (n_points(rows),), NaN where a bucket is all NaN.
    """
    if len(values) <= MAX_POINTS:
        return values
    rows, is_inside = _buckets(len(values))
    known = is_inside & ~np.isnan(values[rows])
    lowest = np.where(known, values[rows], np.inf).argmin(axis=1)
    highest = np.where(known, values[rows], -np.inf).argmax(axis=1)
    positions = np.sort(np.stack([lowest, highest], axis=1), axis=1)
    # in a bucket that is all NaN both positions are its first row
    return values[np.take_along_axis(rows, positions, axis=1)].ravel()


def commonest(classes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The two most frequent classes of each bucket in order of time, or its only class twice.

    Args:
        classes: (rows,); NO_SHARE is not a class and counts only in a bucket without classes.

    Returns:
        (n_points(rows),).
    """
    if len(classes) <= MAX_POINTS:
        return classes
    rows, is_inside = _buckets(len(classes))
    in_bucket = classes[rows]
    known = sorted(set(np.unique(classes).tolist()) - {NO_SHARE})
    counts = np.stack([((in_bucket == value) & is_inside).sum(axis=1) for value in [*known, NO_SHARE]], axis=1)
    counts[:, -1] = counts[:, :-1].sum(axis=1) == 0
    order = np.argsort(-counts, axis=1, kind="stable")[:, :2]
    order = np.where(np.take_along_axis(counts, order, axis=1) > 0, order, order[:, :1])
    names = np.array([*known, NO_SHARE], dtype=np.uint8)[order]
    firsts = [(in_bucket == names[:, [i]]).argmax(axis=1) for i in (0, 1)]
    return np.where((firsts[0] <= firsts[1])[:, None], names, names[:, ::-1]).ravel()
