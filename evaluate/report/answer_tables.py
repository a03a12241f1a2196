"""The table of answers for images and whole videos that are not one class each: the largest errors."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from abaw.core.tasks import Task
from abaw.evaluate.report.cells import Cell, DataTable, number_cells, row_name, titled
from abaw.evaluate.report.content import Reported, VideoErrors
from abaw.evaluate.report.video_sections import MOST_ANSWERS, NameOf
from abaw.evaluate.scores.calibration import row_errors
from abaw.evaluate.scores.metrics import decide


def largest_errors(task: Task, runs: Sequence[Reported], videos: Sequence[VideoErrors], name_of: NameOf) -> DataTable:
    """Images or whole videos with their labels, predictions and errors, the largest error of the first run first."""
    n_runs = len(runs)
    head = [task.level, "label"]
    for i in range(n_runs):
        head += [titled("predicted", i, n_runs), f">{titled('error', i, n_runs)}"]
    listed: list[tuple[float, list[Cell]]] = []
    for video in videos:
        errors = [
            np.full(len(video.first.labels), np.nan)
            if one is None
            else row_errors(task, one.outputs, video.first.labels)
            for one in video.predictions
        ]
        for row in np.flatnonzero(~np.isnan(errors[0])).tolist():
            cells = [row_name(name_of(video.video, row)), Cell(_in_words(task, video.first.labels[row]))]
            for one, of_run in zip(video.predictions, errors, strict=True):
                known = one is not None and row < len(one.outputs)
                answer = decide(task, one.outputs[row : row + 1])[0] if one is not None and known else None
                cells += [Cell("–" if answer is None else _in_words(task, answer)), *number_cells([float(of_run[row])])]
            listed.append((float(errors[0][row]), cells))
    listed.sort(key=lambda answer: -answer[0])
    caption = f"{len(listed):,} {task.level}s by the error of the first run"
    caption += f"; the largest {MOST_ANSWERS:,} are listed" if len(listed) > MOST_ANSWERS else ""
    return DataTable(caption, head, [cells for _, cells in listed[:MOST_ANSWERS]], "sortable", "answers")


def _in_words(task: Task, values: NDArray) -> str:
    """A row in the form of labels: numbers, names of classes, or the outputs that are on."""
    words = []
    for part, _, columns in task.each():
        of_part = values[columns]
        valid = part.valid(of_part)
        if part.kind == "regression":
            words += [f"{value:.2f}" if known else "–" for value, known in zip(of_part, valid, strict=True)]
        elif part.kind == "classes":
            words.append(part.outputs[int(of_part[0])] if valid[0] else "–")
        else:
            words.append(
                "+".join(name for name, value in zip(part.outputs, of_part, strict=True) if value == 1) or "none"
            )
    return ", ".join(words)
