"""The tasks: what a label row holds, what a head must output, and the measure to maximise.

A task is only data; datasets, loaders and models are elsewhere. The built-in tasks have the formats and measures of
the ABAW challenges on Aff-Wild2.

A distribution adds a task by an entry point in the group `abaw.tasks` whose name is the task's and whose object is the
`Task`. abaw lists its own in the same way.
"""

import math
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from abaw.core.errors import UsageError, did_you_mean
from abaw.core.plugins import load_named
from abaw.core.task_files import SUFFIX, read_task_file, record_of, task_of
from abaw.core.task_types import Kind, LabelFiles, Level, Measure, OfOutput, SubmissionFiles, Task

__all__ = ["Kind", "LabelFiles", "Level", "Measure", "OfOutput", "SubmissionFiles", "Task"]  # for plug-ins

GROUP = "abaw.tasks"  # of entry points
EXPRESSIONS = ("Neutral", "Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise", "Other")
ACTION_UNITS = ("AU1", "AU2", "AU4", "AU6", "AU7", "AU10", "AU12", "AU15", "AU23", "AU24", "AU25", "AU26")
LSD_CLASSES = ("Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise")
GROUP_EMOTIONS = ("Positive", "Neutral", "Negative")


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
    invalid=math.nan,
    low=math.nan,
    high=math.nan,
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


ORDER = (
    "va",
    "expr",
    "au",
    "mtl",
    "lsd",
    "vgaf",
    "ah",
    "ah-frames",
    "vd",
    "emi",
    "ce",
    "mer",
    "engagement",
)  # in lists


class _Tasks(Mapping[str, Task]):
    """The tasks that plug-ins provide, loaded on first use: abaw's own first, in its order; then those of task files."""

    def __init__(self) -> None:
        self._added: dict[str, Task] = {}
        self._files: dict[str, str] = {}

    def __getitem__(self, name: str) -> Task:
        return self._added[name] if name in self._added else self._loaded()[name]

    def __iter__(self) -> Iterator[str]:
        return iter({**self._loaded(), **self._added})

    def __len__(self) -> int:
        return len({**self._loaded(), **self._added})

    def add(self, task: Task, file: str) -> Task:
        """Know the task of a file in this process; one of the same name from an earlier file is replaced."""
        self._added[task.name], self._files[task.name] = task, file
        return task

    def know(self, task: Task) -> None:
        """Know the task that a run recorded in this process, unless one of its name is known."""
        if task.name not in self:
            self._added[task.name] = task

    def typed(self, name: str, run: str = "") -> str:
        """What to type for a task: its name, its file, or, for one that only a run has recorded, the folder of that run.

        Args:
            run: folder of the run that recorded it.
        """
        return run if run and self.is_recorded(name) else self._files.get(name, name)

    def is_recorded(self, name: str) -> bool:
        """True for a task that is known in this process from the record of a run alone."""
        return name in self._added and name not in self._files

    def is_of_file(self, name: str) -> bool:
        """True for a task whose file was named in this process."""
        return name in self._files

    def is_own(self, name: str) -> bool:
        """True for a task that comes with abaw."""
        return name in ORDER and name not in self._added

    @staticmethod
    @cache
    def _loaded() -> dict[str, Task]:
        tasks = {}
        for plugin in load_named(GROUP, Task).values():
            if plugin.name == plugin.value.name:
                tasks[plugin.name] = plugin.value
            else:
                plugin.reject(ValueError(f"its task is called {plugin.value.name}"))
        return dict(sorted(tasks.items(), key=lambda item: ORDER.index(item[0]) if item[0] in ORDER else len(ORDER)))


TASKS = _Tasks()


def get_task(name: str) -> Task:
    """The task called `name`, also as `va:valence` for some of its outputs, or that of a file, `mine.toml`.

    The task of a file is known by its name in this process from then on.

    Raises:
        UsageError: there is no such task or file; lists the known ones. Or the file is not that of a task.
    """
    if name.endswith(SUFFIX):
        task = read_task_file(Path(name))
        if task.name in TASKS._loaded():
            raise UsageError(
                f"{name}: the name {task.name} is that of another task, see `abaw list tasks`. Choose one."
            )
        return TASKS.add(task, name)
    whole, colon, outputs = name.partition(":")
    if colon and whole in TASKS:
        return TASKS[whole].only(outputs.split("+"))
    if name not in TASKS:
        raise UsageError(
            f"Unknown task {name!r}. {_near(name)}Choose one of: {', '.join(TASKS)}; or name a {SUFFIX} file of your own."
        )
    return TASKS[name]


def _near(name: str) -> str:
    """A question with a task file, tasks, or outputs of tasks of a similar name; see `did_you_mean`."""
    file = Path(name).with_suffix(SUFFIX) if name else Path()
    outputs = [f"{task.name}:{output}" for task in TASKS.values() for output in task.outputs]
    near = [text for text in outputs if text.partition(":")[2] == name]
    if file.is_file() or near:
        return f"Did you mean {file if file.is_file() else near[0]}? "
    return did_you_mean(name, list(TASKS))


def recorded_task(name: str, record: Mapping[str, Any] | None) -> Task:
    """The task called `name`, by the record that a run keeps of one that does not come with abaw.

    Args:
        name: also with some of its outputs, see `get_task`.
        record: from `record_for`; None for a known task.

    Raises:
        UsageError: the task is unknown, or the record is not that of a task of this name.
    """
    if record is None:
        return get_task(name)
    whole, colon, outputs = name.partition(":")
    task = task_of(record, f"the record of task {whole}")
    if task.name != whole:
        raise UsageError(f"The record of task {whole} is that of {task.name}. Train again.")
    TASKS.know(task)  # the labels of its data are read by that
    return task.only(outputs.split("+")) if colon else task


def record_for(task: Task) -> dict[str, Any] | None:
    """What a run keeps of a task; None for one that comes with abaw."""
    whole = task.selected_from or task
    return None if TASKS.is_own(whole.name) else record_of(whole)
