"""Outputs of a task from the columns of a table of OpenFace, py-feat, LibreFace or anyone.

Values are taken by name. A class is the one with the largest number, or the one that is named; contempt counts as Other.
An action unit is on by its presence (`AU01_c`, `au_1`), else where its probability is at least one half, else where its
intensity is at least 1; with a threshold of one's own, by probability or intensity first. Units that a table lacks are
left out of the task, classes that it lacks are never the answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from abaw.core.errors import DataError, UsageError, did_you_mean
from abaw.core.expressions import plain_expression
from abaw.core.tasks import Task
from abaw.media.face_columns import PROBABILITY, FaceColumn, UnitForm, action_unit
from abaw.media.face_tables import FaceTable

LEAST = {"presence": 0.5, "probability": 0.5, "intensity": 1.0}
OTHER = {"contempt": "other"}
NUMBERED = "action_units_"  # of OpenFace 3


@dataclass(frozen=True)
class OutputColumns:
    """Which columns give the outputs of a task.

    Attributes:
        task: with the outputs that the table has.
        columns: of the table.
        outputs: of each column the output.
        forms: of each column of an action unit what its numbers are.
        least: of each column of an action unit the number from which it is on.
    """

    task: Task
    columns: tuple[FaceColumn, ...]
    outputs: tuple[str, ...]
    forms: tuple[UnitForm, ...] = ()
    least: tuple[float, ...] = ()

    def outputs_of(self, values: NDArray[np.float32], table: FaceTable) -> NDArray[np.float32]:
        """(rows, outputs) that `decide` turns into the answers, from the (rows, columns) of a table.

        Raises:
            DataError: a probability is none.
        """
        if self.task.kind == "regression":
            return values
        if self.task.kind == "binary":
            self._check_probabilities(values, table)
            return np.where(values >= np.array(self.least, dtype=np.float32), 1, -1).astype(np.float32)
        lowest = values.min(initial=0) - 1
        by_class = np.full((len(values), len(self.task.outputs)), lowest, dtype=np.float32)
        for column, output in enumerate(self.outputs):
            place = self.task.outputs.index(output)
            by_class[:, place] = np.maximum(by_class[:, place], values[:, column])
        return by_class

    def _check_probabilities(self, values: NDArray[np.float32], table: FaceTable) -> None:
        for i, form in enumerate(self.forms):
            if form == "probability" and ((values[:, i] < 0) | (values[:, i] > 1)).any():
                name = self.columns[i].name
                raise DataError(
                    f"{table.path}: `{name}` has {values[:, i].max():g}, which is no probability. Call the column {name}_r if "
                    "it is an intensity."
                )


def find_outputs(task: Task, table: FaceTable, threshold: float | None = None) -> OutputColumns:
    """The columns of a table that give a task's outputs.

    Args:
        threshold: from which probability or intensity an action unit is on.

    Raises:
        UsageError: the table has none of the outputs, or the task is not one of frames.
    """
    if task.level != "frame" or task.kind == "multi":
        raise UsageError(
            f"Tables of faces are scored on tasks of single frames, such as va, expr and au; not {task.name}."
        )
    if threshold is not None and task.kind != "binary":
        raise UsageError(f"--threshold is for action units, which task {task.name} does not have. Leave it out.")
    if task.kind == "binary":
        return _find_units(task, table, threshold)
    pairs = _values(task, table) if task.kind == "regression" else _classes(task, table)
    if not pairs:
        raise _nothing(task, table)
    known = [name for name in task.outputs if name in pairs.values()]
    if task.kind == "regression":
        by_output = {output: column for column, output in pairs.items()}
        return OutputColumns(_only(task, known), tuple(by_output[name] for name in known), tuple(known))
    return OutputColumns(task, tuple(pairs), tuple(pairs.values()))


def _values(task: Task, table: FaceTable) -> dict[FaceColumn, str]:
    return {column: column.name for column in table.columns if column.name in task.outputs}


def _classes(task: Task, table: FaceTable) -> dict[FaceColumn, str]:
    """The class of each column: of those with numbers if there are any, else of one that names it."""
    outputs = {plain_expression(name): name for name in task.outputs}
    pairs = {}
    for column in table.columns:
        name = column.classes[column.part] if column.classes else column.name.removesuffix(PROBABILITY)
        plain = plain_expression(name)
        if (plain := plain if plain in outputs else OTHER.get(plain, plain)) in outputs:
            pairs[column] = outputs[plain]
    numbers = {column: output for column, output in pairs.items() if not column.classes}
    return numbers or pairs


def _find_units(task: Task, table: FaceTable, threshold: float | None) -> OutputColumns:
    by_form: dict[str, dict[UnitForm, FaceColumn]] = {}
    for column in table.columns:
        if (unit := action_unit(column.name)) is not None:
            by_form.setdefault(unit[0], {})[unit[1]] = column
    if "AU3" in by_form:
        raise UsageError(
            f"{table.path} has an AU3, so that its action units are numbered, as in tables of OpenFace 3, and not named. Rename "
            "the columns."
        )
    order: Sequence[UnitForm] = ("presence", "probability", "intensity")
    if threshold is not None:
        order = ("probability", "intensity", "presence")
    known = [name for name in task.outputs if name in by_form]
    if not known:
        raise _nothing(task, table)
    forms = [next(form for form in order if form in by_form[name]) for name in known]
    least = [LEAST[form] if threshold is None or form == "presence" else threshold for form in forms]
    columns = tuple(by_form[name][form] for name, form in zip(known, forms, strict=True))
    return OutputColumns(_only(task, known), columns, tuple(known), tuple(forms), tuple(least))


def _only(task: Task, outputs: Sequence[str]) -> Task:
    """A task with some of its outputs, whose measure has a short name."""
    part = task.only(outputs)
    if part is task or len(outputs) < 3:
        return part
    return replace(part, measure=replace(part.measure, name=f"mean {task.measure.short} over {len(outputs)} outputs"))


def _nothing(task: Task, table: FaceTable) -> UsageError:
    names = [column.name for column in table.columns]
    if task.kind == "binary" and any(name.startswith(NUMBERED) for name in names):
        return UsageError(
            f"{table.path} has action units by number alone: OpenFace 3 does not say which they are. Rename its columns, such "
            "as AU01."
        )
    near = next((text for name in task.outputs if (text := did_you_mean(name, names))), "")
    return UsageError(
        f"{table.path} ({table.program}) has no column of task {task.name}: {', '.join(task.outputs[:4])} ... "
        f"{near}Choose another with --task."
    )
