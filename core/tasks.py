"""The tasks: what a label row holds, what a head must output, and the measure to maximise.

A task is only data; datasets, loaders and models are elsewhere. The built-in tasks have the formats and measures of
the ABAW challenges on Aff-Wild2.

A distribution adds a task by an entry point in the group `abaw.tasks` whose name is the task's and whose object is the
`Task`. abaw lists its own in the same way.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from abaw.core.errors import UsageError, did_you_mean
from abaw.core.plugins import load_named

GROUP = "abaw.tasks"  # of entry points
EXPRESSIONS = ("Neutral", "Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise", "Other")
ACTION_UNITS = ("AU1", "AU2", "AU4", "AU6", "AU7", "AU10", "AU12", "AU15", "AU23", "AU24", "AU25", "AU26")
LSD_CLASSES = ("Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise")
GROUP_EMOTIONS = ("Positive", "Neutral", "Negative")

Kind = Literal["regression", "classes", "binary", "multi"]
Level = Literal["frame", "image", "video"]
OfOutput = Literal["ccc", "pearson", "f1", "accuracy"]
Pooled = Literal["mean", "all"]

MEASURED_BY: dict[Kind, tuple[OfOutput | None, ...]] = {
    "regression": ("ccc", "pearson"),
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
            that label (its recall), of a binary output among all its labels. None for a `multi` task, whose score is
            the sum of the scores of its parts.
        pooled: the score is the `mean` over outputs, or the measure of `all` outputs counted together as if they were
            one. F1 of all classes together is the plain accuracy.
    """

    name: str
    short: str
    of_output: OfOutput | None
    pooled: Pooled = "mean"


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
class SubmissionFiles:
    """Files to hand in.

    Attributes:
        images: header of a file with a row for each image, which begins with the image's name; empty if there is no
            such file.
        videos: header of files of one video each, without image names; empty if there are no such files.
    """

    images: str = ""
    videos: str = ""


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
        whole: name of the task that this one is a selection of, see `only`; empty for a task of its own.
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
    whole: str = ""
    taken: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.measure.of_output not in MEASURED_BY[self.kind]:
            raise ValueError(f"task {self.name} of kind {self.kind} cannot be measured by {self.measure.of_output}")
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
            raise UsageError(
                f"outputs must be some of {','.join(self.outputs)}, in this order; found {','.join(outputs)}."
            )
        measures = [f"{self.measure.short} {name}" for name in outputs]
        name = measures[0] if len(measures) == 1 else f"mean of {' and '.join(measures)}"
        whole, taken = self.whole or self.name, self.taken or tuple(range(len(self.columns)))
        return replace(
            self,
            name=f"{whole}:{'+'.join(outputs)}",
            outputs=tuple(outputs),
            columns=tuple(self.columns[number] for number in numbers),
            measure=replace(self.measure, name=name),
            labels=None,
            submission=SubmissionFiles(),
            whole=whole,
            taken=tuple(taken[number] for number in numbers),
        )

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


VA = Task(
    name="va",
    kind="regression",
    outputs=("valence", "arousal"),
    columns=("valence", "arousal"),
    invalid=-5,
    low=-1,
    high=1,
    loss="ccc",
    measure=Measure("mean of CCC valence and CCC arousal", "CCC", "ccc"),
    labels=LabelFiles(("va_estimation_challenge", "va_challenge", "va_set"), "valence,arousal"),
    submission=SubmissionFiles("image_location,valence,arousal", "valence,arousal"),
)
EXPR = Task(
    name="expr",
    kind="classes",
    outputs=EXPRESSIONS,
    columns=("expression",),
    invalid=-1,
    low=0,
    high=len(EXPRESSIONS) - 1,
    loss="cross-entropy",
    measure=Measure("macro F1 over 8 expressions", "F1", "f1"),
    labels=LabelFiles(
        ("expr_classification_challenge", "expr_recognition_challenge", "expr_challenge", "expr_set"),
        ",".join(EXPRESSIONS),
    ),
    submission=SubmissionFiles(",".join(("image_location", *EXPRESSIONS)), ",".join(EXPRESSIONS)),
)
AU = Task(
    name="au",
    kind="binary",
    outputs=ACTION_UNITS,
    columns=ACTION_UNITS,
    invalid=-1,
    low=0,
    high=1,
    loss="bce",
    measure=Measure("mean F1 over 12 action units", "F1", "f1"),
    labels=LabelFiles(("au_detection_challenge", "au_challenge", "au_set"), ",".join(ACTION_UNITS)),
    submission=SubmissionFiles(",".join(("image_location", *ACTION_UNITS)), ",".join(ACTION_UNITS)),
)
MTL = Task(
    name="mtl",
    kind="multi",
    outputs=VA.outputs + EXPR.outputs + AU.outputs,
    columns=VA.columns + EXPR.columns + AU.columns,
    invalid=float("nan"),
    low=float("nan"),
    high=float("nan"),
    loss="emma",
    measure=Measure("sum of the measures of va, expr and au", "sum", None),
    parts=(VA, EXPR, AU),
    submission=SubmissionFiles("image,valence,arousal,expression,aus"),
)
LSD = Task(
    name="lsd",
    kind="classes",
    outputs=LSD_CLASSES,
    columns=("expression",),
    invalid=-1,
    low=0,
    high=len(LSD_CLASSES) - 1,
    loss="cross-entropy",
    measure=Measure("macro F1 over 6 expressions", "F1", "f1"),
    level="image",
    window=1,
    submission=SubmissionFiles("image,expression"),
)
VGAF = Task(
    name="vgaf",
    kind="classes",
    outputs=GROUP_EMOTIONS,
    columns=("emotion",),
    invalid=-1,
    low=0,
    high=len(GROUP_EMOTIONS) - 1,
    loss="cross-entropy",
    measure=Measure("accuracy over 3 group emotions", "F1", "f1", pooled="all"),
    level="video",
    window=75,
)


class _Tasks(Mapping[str, Task]):
    """The tasks that plug-ins provide, loaded on first use: abaw's own first, in its order."""

    def __getitem__(self, name: str) -> Task:
        return self._loaded()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._loaded())

    def __len__(self) -> int:
        return len(self._loaded())

    @staticmethod
    @cache
    def _loaded() -> dict[str, Task]:
        builtin = [task.name for task in (VA, EXPR, AU, MTL, LSD, VGAF)]
        tasks = {}
        for plugin in load_named(GROUP, Task).values():
            if plugin.name == plugin.value.name:
                tasks[plugin.name] = plugin.value
            else:
                plugin.reject(ValueError(f"its task is called {plugin.value.name}"))
        return dict(
            sorted(tasks.items(), key=lambda item: builtin.index(item[0]) if item[0] in builtin else len(builtin))
        )


TASKS: Mapping[str, Task] = _Tasks()


def get_task(name: str) -> Task:
    """The task called `name`, also as `va:valence` for some of its outputs; a UsageError lists the known ones."""
    whole, colon, outputs = name.partition(":")
    if colon and whole in TASKS:
        return TASKS[whole].only(outputs.split("+"))
    if name not in TASKS:
        raise UsageError(f"Unknown task {name!r}. {did_you_mean(name, list(TASKS))}Choose one of: {', '.join(TASKS)}.")
    return TASKS[name]
