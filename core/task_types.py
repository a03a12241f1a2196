"""What a task is: its outputs and labels, its measure, where its labels come from, and what is handed in.

A task is only data; `abaw.core.tasks` has the known ones, and `abaw.core.task_files` reads them from TOML.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from abaw.core.errors import UsageError, did_you_mean

Kind = Literal["regression", "classes", "binary", "multi"]
Level = Literal["frame", "image", "video"]
OfOutput = Literal["ccc", "pearson", "mse", "f1", "accuracy"]
Pooled = Literal["mean", "all", "weighted"]
LABEL, CLASS, PROBABILITIES, CLIP, FRAME = "label", "class", "probabilities", "clip", "frame"  # cells of `RowFiles`

MEASURED_BY: dict[Kind, tuple[OfOutput | None, ...]] = {
    "regression": ("ccc", "pearson", "mse"),
    "classes": ("f1", "accuracy"),
    "binary": ("f1", "accuracy"),
    "multi": (None,),
}
MOST_CLASSES = 128  # labels of classes are int8


@dataclass(frozen=True)
class Measure:
    """The score of a task; `abaw.evaluate.scores.metrics` has the formulas.

    Attributes:
        name: the score in words.
        short: the measure of one output in a few letters, as the title of a column.
        of_output: the measure of one output. `accuracy` is the share of correct rows: of a class among the rows with
            that label (its recall), of a binary output among all its labels. `mse` is minus the mean squared error, so
            that more is better. None for a `multi` task, whose score is the sum of the scores of its parts.
        pooled: the score is the `mean` over outputs, that mean `weighted` by the number of labels of each, or the
            measure of `all` outputs counted together as if they were one. F1 of all classes together is the plain
            accuracy.
        also: names of further scores that are shown, see `abaw.evaluate.scores.further_scores`.
    """

    name: str
    short: str
    of_output: OfOutput | None
    pooled: Pooled = "mean"
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class LabelFiles:
    """Label files in the official layout: a folder for each task, in it one text file per video with a row per frame.

    Attributes:
        folders: names of the task's folder, in lower case with underscores. Capitals, spaces and hyphens in the name
            of a real folder do not matter.
        header: first line of every file.
    """

    folders: tuple[str, ...]
    header: str


@dataclass(frozen=True)
class LabelTable:
    """Tables with the labels of all videos of a split, in the data folder or one level further down.

    Attributes:
        files: (split, name) of each table; the split is empty if a column has it. Names are paths relative to the folder.
        clip: column with the name of the video, or of its file.
        targets: columns of the labels, in the order of the task's columns.
        frame: column with the number of the frame, from 1; empty for labels of whole videos.
        split: column with the split, `train`, `val` or another name that `abaw.datasets.folders.SPLITS` has.
        person: column with the person in the video; empty without one.
        first: number of the first class in the tables; their names are read, too.
    """

    files: tuple[tuple[str, str], ...]
    clip: str
    targets: tuple[str, ...]
    frame: str = ""
    split: str = ""
    person: str = ""
    first: int = 0


@dataclass(frozen=True)
class RowFiles:
    """Files to hand in that are made of cells: one with a row for each clip, or one for each video.

    Attributes:
        form: one file with a row for each of the `clips`, or a file for each of the `videos`.
        header: the first line; empty for files without one.
        columns: what a row holds, in each of the accepted ways; the last one is written. `clip` is the name as in the
            sample, `frame` the number from 1, `label` the values of a label row, `class` the name of the class, and
            `probabilities` one for each class, whose sum is 1.
        suffix: of files of one video each.
        is_zipped: these files are in one zip archive.
        order: of the rows: that of the `sample`, or that of the `name`.
    """

    form: Literal["clips", "videos"]
    header: str = ""
    columns: tuple[tuple[str, ...], ...] = ((CLIP, LABEL),)
    suffix: str = ".txt"
    is_zipped: bool = False
    order: Literal["sample", "name"] = "sample"


@dataclass(frozen=True)
class SubmissionFiles:
    """Files to hand in.

    Attributes:
        images: header of a file with a row for each image, which begins with the image's name; empty if there is no
            such file.
        videos: header of files of one video each, without image names; empty if there are no such files.
        rows: other files, in place of both; None without such.
    """

    images: str = ""
    videos: str = ""
    rows: RowFiles | None = None


@dataclass(frozen=True)
class Task:
    """One prediction task.

    Attributes:
        name: the name on the command line.
        kind: `regression` (one real number per output), `classes` (one integer label, one logit per output),
            `binary` (one 0/1 label and one logit per output) or `multi` (several of these side by side, see `parts`).
        outputs: names of the head's outputs; their number is the width of a prediction row.
        columns: names of a label row's values.
        invalid: the value that marks a label as not annotated; it masks that value alone.
        low, high: inclusive range of a valid label. `multi` tasks leave these three to their parts.
        loss: default loss, a name of `abaw.train.loss_options.LOSSES`.
        measure: the score.
        level: what a label belongs to: a `frame` of a video, an `image` without neighbours in time (a video's rows
            are then only a list of images), or a whole `video`, whose labels are one row.
        window: frames that a head sees at once unless a config says otherwise.
        parts: the tasks that a `multi` task joins; their outputs and columns follow one another.
        labels: label files in the official layout; None if the labels are elsewhere.
        submission: files to hand in.
        table: tables with the labels; None if they are elsewhere.
        selected_from: the task that this one is a selection of, see `only`; None for a task of its own.
        taken: the label columns of that task which this one has.

    Raises:
        ValueError: the attributes contradict each other.
    """

    name: str
    kind: Kind
    outputs: tuple[str, ...]
    columns: tuple[str, ...]
    invalid: float
    low: float
    high: float
    loss: str
    measure: Measure
    level: Level = "frame"
    window: int = 100
    parts: tuple["Task", ...] = ()
    labels: LabelFiles | None = None
    submission: SubmissionFiles = SubmissionFiles()
    table: LabelTable | None = None
    selected_from: "Task | None" = None
    taken: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.measure.of_output not in MEASURED_BY[self.kind]:
            raise ValueError(f"task {self.name} of kind {self.kind} cannot be measured by {self.measure.of_output}")
        if self.kind == "regression" and self.measure.pooled == "weighted":
            raise ValueError(f"task {self.name} has real numbers, whose measures have no weights")
        if (self.kind == "multi") != bool(self.parts):
            raise ValueError(f"task {self.name} of kind {self.kind} has {len(self.parts)} parts")
        joined = tuple(name for part in self.parts for name in part.outputs)
        if len({*self.outputs}) < len(self.outputs) or "score" in self.outputs or joined not in ((), self.outputs):
            raise ValueError(f"task {self.name} has outputs of equal names, one called score, or others than its parts")
        n_columns = 1 if self.kind == "classes" else len(self.outputs)
        if not self.parts and len(self.columns) != n_columns:
            raise ValueError(f"task {self.name} has {len(self.columns)} columns, not {n_columns}")
        if not self.parts and not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"task {self.name} has no range of labels from {self.low:g} to {self.high:g}")
        if self.kind == "classes" and (self.low, self.high) != (0, len(self.outputs) - 1):
            raise ValueError(f"task {self.name} has labels from {self.low:g} to {self.high:g}, not one for each class")
        if len(self.outputs) > MOST_CLASSES:
            raise ValueError(f"task {self.name} has {len(self.outputs)} outputs; {MOST_CLASSES} are possible")

    def only(self, outputs: Sequence[str]) -> "Task":
        """The task with some of its outputs, such as `va:valence`; itself if these are all. It has no submission files.

        Raises:
            UsageError: the task has other outputs, or cannot be divided.
        """
        if tuple(outputs) == self.outputs:
            return self
        if self.kind not in ("regression", "binary"):
            raise UsageError(f"The outputs of task {self.name} belong together: leave out outputs.")
        numbers = [self.outputs.index(name) for name in outputs if name in self.outputs]
        if len(numbers) != len(outputs) or numbers != sorted({*numbers}) or not numbers:
            near = next((did_you_mean(name, self.outputs) for name in outputs if name not in self.outputs), "")
            raise UsageError(
                f"outputs must be some of {','.join(self.outputs)}, in this order; found {','.join(outputs)}. {near}".strip()
            )
        measures = [f"{self.measure.short} {name}" for name in outputs]
        name = measures[0] if len(measures) == 1 else f"mean of {' and '.join(measures)}"
        whole, taken = self.selected_from or self, self.taken or tuple(range(len(self.columns)))
        return replace(
            self,
            name=f"{whole.name}:{'+'.join(outputs)}",
            outputs=tuple(outputs),
            columns=tuple(self.columns[number] for number in numbers),
            measure=replace(self.measure, name=name),
            labels=None,
            submission=SubmissionFiles(),
            table=None,
            selected_from=whole,
            taken=tuple(taken[number] for number in numbers),
        )

    @property
    def whole(self) -> str:
        """Name of the task that this one is a selection of; empty for a task of its own."""
        return self.selected_from.name if self.selected_from is not None else ""

    @property
    def first_class(self) -> int:
        """The number of the first class in tables of labels and in submission files; in memory classes count from 0."""
        return self.table.first if self.table is not None and self.kind == "classes" else 0

    def each(self) -> Iterator[tuple["Task", slice, slice]]:
        """The plain tasks in this one, each with its slices of the outputs and of the label columns."""
        output = column = 0
        for part in self.parts or (self,):
            n_outputs, n_columns = len(part.outputs), len(part.columns)
            yield part, slice(output, output + n_outputs), slice(column, column + n_columns)
            output, column = output + n_outputs, column + n_columns

    def outputs_of(self, kind: Kind) -> tuple[str, ...]:
        """The outputs of the plain tasks of a kind in this one."""
        return tuple(name for part, _, _ in self.each() if part.kind == kind for name in part.outputs)

    @property
    def invalid_row(self) -> tuple[float, ...]:
        """A label row without any annotation."""
        return tuple(part.invalid for part, _, _ in self.each() for _ in part.columns)

    def valid(self, labels: NDArray) -> NDArray[np.bool_]:
        """True where a label value is annotated.

        Args:
            labels: (..., columns) as published, invalid values kept.
        """
        return labels != np.array(self.invalid_row, dtype=np.float32)  # unsigned labels hold no -1
