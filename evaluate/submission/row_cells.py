"""The cells of rows in submission files of clips or of videos; `abaw.core.task_types.RowFiles` says which a task has."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from abaw.core.errors import UsageError
from abaw.core.task_types import CLASS, CLIP, FRAME, LABEL, PROBABILITIES, RowFiles
from abaw.core.tasks import Task
from abaw.evaluate.submission.formats import DIGITS, format_values
from abaw.evaluate.submission.parsing import NUMBER, as_labels, wrong_with


@dataclass(frozen=True)
class ParsedRow:
    """The cells of a valid row.

    Attributes:
        name: of the clip; empty in files of one video.
        frame: number from 1; 0 without one.
        label: (columns,) in the form of labels.
        probabilities: (classes,); None without them.
    """

    name: str
    frame: int
    label: NDArray[np.float32]
    probabilities: NDArray[np.float64] | None


def form_of(task: Task) -> RowFiles:
    """The form of a task's files of cells.

    Raises:
        UsageError: it has none.
    """
    if task.submission.rows is None:
        raise UsageError(f"Task {task.name} has no submission files of clips or of cells.")
    return task.submission.rows


def is_header(line: str, form: RowFiles) -> bool:
    """True for the header of a form; case and spaces do not matter."""
    return bool(form.header) and line.replace(" ", "").strip().lower() == form.header.replace(" ", "").lower()


def format_rows(task: Task, name: str, answers: NDArray, outputs: NDArray) -> Iterator[str]:
    """The rows of a clip or video, in the last of the ways that its form accepts.

    Args:
        name: as in the sample.
        answers: (rows, columns) in the form of labels, see `abaw.evaluate.scores.metrics.decide`.
        outputs: (rows, outputs) that they come from.
    """
    way = form_of(task).columns[-1]
    labels = format_values(task, answers)
    for number, (label, row) in enumerate(zip(labels, outputs, strict=True), start=1):
        cells = {CLIP: name, FRAME: str(number), LABEL: label}
        if task.kind == "classes":
            answer = int(label) - task.first_class
            cells[CLASS] = task.outputs[answer]
            if PROBABILITIES in way:
                cells[PROBABILITIES] = ",".join(format_probabilities(row, answer))
        yield ",".join(cells[word] for word in way)


def format_probabilities(outputs: NDArray, label: int) -> tuple[str, str]:
    """The probabilities of two classes: of all pairs of six digits that add up to 1, the sum as floats is exactly 1.

    A label that another threshold decided has at least one half, as its class was preferred.
    """
    logit = float(outputs[1]) - float(outputs[0])
    second = float(1 / (1 + np.exp(-np.clip(logit, -700, 700))))
    second = max(second, 0.5) if label == 1 else min(second, 0.5)
    unit = 10**DIGITS
    counts = unit - round(second * unit), round(second * unit)
    return f"{counts[0] / unit:.{DIGITS}f}", f"{counts[1] / unit:.{DIGITS}f}"


def parse_row(task: Task, line: str) -> ParsedRow | str:
    """The cells of a row, or a clause about its first problem."""
    form, cells = form_of(task), line.split(",")
    n_values = {LABEL: len(task.columns), PROBABILITIES: len(task.outputs)}
    widths = {sum(n_values.get(word, 1) for word in way): way for way in form.columns}
    way = widths.get(len(cells))
    if way is None:
        ways = " or ".join(f"{width} ({', '.join(way)})" for width, way in widths.items())
        return f"{ways} cells are expected, found {len(cells)}"
    values: dict[str, list[str]] = {}
    for word in way:
        values[word], cells = cells[: n_values.get(word, 1)], cells[n_values.get(word, 1) :]
    frame = values.get(FRAME, ["0"])[0]
    if not (frame.isascii() and frame.isdigit() and len(frame) < 12 and (FRAME not in way or int(frame) >= 1)):
        return f"the frame should be a number from 1, found {frame[:30]!r}"
    label = _label(task, values)
    if isinstance(label, str):
        return label
    probabilities = None
    if PROBABILITIES in way:
        texts = values[PROBABILITIES]
        if wrong := wrong_probabilities(texts):
            return wrong
        probabilities = np.array([float(text) for text in texts])
    return ParsedRow(values.get(CLIP, [""])[0], int(frame), label, probabilities)


def _label(task: Task, values: Mapping[str, Sequence[str]]) -> NDArray[np.float32] | str:
    if CLASS in values:
        name = values[CLASS][0]
        if name not in task.outputs:
            return f"the class should be one of {', '.join(task.outputs)}, found {name[:30]!r}"
        return np.array([task.outputs.index(name)], dtype=np.float32)
    if LABEL not in values:
        largest = int(np.argmax([float(text) if NUMBER.fullmatch(text) else 0 for text in values[PROBABILITIES]]))
        return np.array([largest], dtype=np.float32)
    texts = values[LABEL]
    return wrong_with(",".join(texts), task) or as_labels([texts], task)[0]


def wrong_probabilities(texts: Sequence[str]) -> str:
    """A clause about probabilities that are none, or whose sum is not exactly 1 as floats; empty if all is well."""
    for text in texts:
        if not NUMBER.fullmatch(text) or not 0 <= float(text) <= 1:
            return f"a probability should be a number from 0 to 1, found {text[:30]!r}"
    total = sum(float(text) for text in texts)
    return "" if total == 1.0 else f"{' + '.join(texts)} should be exactly 1.0, found {total!r}"
