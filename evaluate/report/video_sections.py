"""The parts of a report about single videos: their traces, or for images and whole videos the wrong answers."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from abaw.core.tasks import Task
from abaw.evaluate.report.cells import Cell, DataTable, letter, number_cells, row_name, titled
from abaw.evaluate.report.content import Reported, VideoErrors
from abaw.evaluate.report.palette import class_colours
from abaw.evaluate.report.sections import ERRORS
from abaw.evaluate.report.traces import NO_SHARE, NO_VALUE, SHARE_SCALE, columns_of, pack, value_scale
from abaw.evaluate.report.worst_spans import Pictures, spans_with_faces
from abaw.evaluate.scores.calibration import missing_share
from abaw.evaluate.scores.metrics import decide

MOST_ANSWERS = 2000  # rows of the list of wrong answers
MOST_PICTURES = 300

NameOf = Callable[[str, int], str]


def videos_table(task: Task, runs: Sequence[Reported], videos: Sequence[VideoErrors]) -> DataTable:
    """The list of videos, in descending order of their error."""
    n_runs = len(runs)
    head = ["video", ">rows", ">seconds", ">no crop"]
    for part, _, _ in task.each():
        head += [f">{part.name} {titled('error', i, n_runs)}" for i in range(n_runs)]
    rows = [_video_row(i, video, n_runs) for i, video in enumerate(videos)]
    what = "; ".join(f"{part.name}: {ERRORS[part.kind]}" for part, _, _ in task.each())
    return DataTable(f"Error over the labelled rows. {what}", head, rows, "sortable", "videos")


def _video_row(index: int, video: VideoErrors, n_runs: int) -> list[Cell]:
    first = video.first
    seconds = len(first.outputs) / first.fps if first.fps else math.nan
    share = missing_share(first)
    cells = [*number_cells([len(first.outputs)], 0), *number_cells([seconds], 1), Cell(f"{share:.1%}", key=share)]
    errors = [error for by_run in video.by_part for error in by_run[:n_runs]]
    return [row_name(video.video, index), *cells, *number_cells(errors)]


def class_legend(task: Task) -> list[tuple[str, str]]:
    """Colour and name of each class."""
    return [
        (colour, name)
        for part, _, _ in task.each()
        if part.kind == "classes"
        for colour, name in zip(class_colours(len(part.outputs)), part.outputs, strict=True)
    ]


def payload(
    task: Task, runs: Sequence[Reported], videos: Sequence[VideoErrors], pictures: Pictures | None
) -> dict[str, Any]:
    """What the script of the page draws; see `abaw.evaluate.report.traces` for `columns`, `scales` and `videos`."""
    columns = columns_of(task, len(runs))
    packed = zip(videos, spans_with_faces(videos, pictures), strict=True)
    return {
        "runs": [letter(i, len(runs)) or "predicted" for i in range(len(runs))],
        "parts": [
            {"name": part.name, "kind": part.kind, "outputs": part.outputs, "low": part.low, "high": part.high}
            for part, _, _ in task.each()
        ],
        "columns": [vars(column) for column in columns],
        "scales": {"i2": [value_scale(task), NO_VALUE], "u1": [SHARE_SCALE, NO_SHARE]},
        "colours": class_colours(max(len(part.outputs) for part, _, _ in task.each())),
        "videos": [
            {"name": video.video, "spans": spans, **pack(task, columns, video.predictions)} for video, spans in packed
        ],
    }


def wrong_answers(
    task: Task, runs: Sequence[Reported], videos: Sequence[VideoErrors], pictures: Pictures | None, name_of: NameOf
) -> DataTable:
    """Images or whole videos that a run has wrong, in descending order of the first wrong run's probability."""
    answers = [answer for video in videos for answer in _wrong_rows(task, video)]
    answers.sort(key=lambda answer: -answer[2])
    n_runs = len(runs)
    head = ["picture"] * (pictures is not None) + [task.level, "label"]
    for i in range(n_runs):
        head += [titled("predicted", i, n_runs), f">{titled('probability', i, n_runs)}"]
    rows = []
    for number, (video, row, _) in enumerate(answers[:MOST_ANSWERS]):
        cells = _answer_row(task, video, row, name_of(video.video, row))
        if pictures is not None:
            picture = pictures.small(video.video, row) if number < MOST_PICTURES else None
            cells.insert(0, Cell(picture=picture))
        rows.append(cells)
    n_all = sum(int(task.valid(video.first.labels).any(axis=1).sum()) for video in videos)
    by = "a run has" if n_runs > 1 else "the run has"
    caption = f"{len(answers):,} of {n_all:,} {task.level}s that {by} wrong"
    caption += f"; the surest {MOST_ANSWERS:,} are listed" if len(answers) > MOST_ANSWERS else ""
    return DataTable(caption, head, rows, "sortable", "answers")


def _wrong_rows(task: Task, video: VideoErrors) -> list[tuple[VideoErrors, int, float]]:
    """Each row that a run has wrong, with the probability that the first wrong run gives its answer."""
    labels = video.first.labels[:, 0]
    valid = task.valid(video.first.labels)[:, 0]
    certainty = np.full(len(labels), np.nan)
    for prediction in video.predictions:
        if prediction is not None:
            wrong = valid & (decide(task, prediction.outputs)[:, 0] != labels)
            certainty = np.where(wrong & np.isnan(certainty), _probabilities(prediction.outputs).max(axis=1), certainty)
    return [(video, row, float(certainty[row])) for row in np.flatnonzero(~np.isnan(certainty)).tolist()]


def _probabilities(outputs: NDArray) -> NDArray[np.float64]:
    return np.asarray(softmax(outputs.astype(np.float64), axis=1), dtype=np.float64)


def _answer_row(task: Task, video: VideoErrors, row: int, name: str) -> list[Cell]:
    label = int(video.first.labels[row, 0])
    cells = [row_name(name), Cell(task.outputs[label])]
    for prediction in video.predictions:
        if prediction is None:
            cells += [Cell("–"), Cell("–", key=math.nan)]
            continue
        probabilities = _probabilities(prediction.outputs[row : row + 1])[0]
        answer = int(probabilities.argmax())
        mark = " right" if answer == label and len(video.predictions) > 1 else ""
        cells += [Cell(task.outputs[answer], mark), *number_cells([float(probabilities[answer])], 2)]
    return cells
