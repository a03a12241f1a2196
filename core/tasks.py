"""The tasks of the field: what a label row holds, what a head must output, and the measure to maximise.

A task is data alone: no dataset, loader or model lives here. Formats and measures are those of the ABAW
challenges on Aff-Wild2.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from abaw.core.errors import UsageError

EXPRESSIONS = ("Neutral", "Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise", "Other")
ACTION_UNITS = ("AU1", "AU2", "AU4", "AU6", "AU7", "AU10", "AU12", "AU15", "AU23", "AU24", "AU25", "AU26")
LSD_CLASSES = ("Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise")
GROUP_EMOTIONS = ("Positive", "Neutral", "Negative")

Kind = Literal["regression", "classes", "binary", "multi"]
Level = Literal["frame", "image", "video"]


@dataclass(frozen=True)
class Task:
    """One prediction task.

    Attributes:
        name: what the command line calls it.
        kind: `regression` (one real number per output), `classes` (one integer label, one logit per output),
            `binary` (one 0/1 label and one logit per output) or `multi` (several of these side by side, see `parts`).
        outputs: names of the head's outputs; their number is the width of a prediction row.
        columns: names of a label row's values.
        invalid: the value that marks a label as not annotated; it masks that value alone.
        low, high: inclusive range of a valid label. `multi` tasks leave these three to their parts.
        loss: default loss, a name of `abaw.train.loss_options.LOSSES`.
        measure: what `score` is, in words.
        level: what a label belongs to: a `frame` of a video, an `image` that has no neighbours in time (a video's
            rows are then merely a list of images), or a whole `video`, whose labels are one row.
        window: frames that a head sees at once unless a config says otherwise.
        parts: the tasks that a `multi` task joins; their outputs and columns follow one another.
    """

    name: str
    kind: Kind
    outputs: tuple[str, ...]
    columns: tuple[str, ...]
    invalid: float
    low: float
    high: float
    loss: str
    measure: str
    level: Level = "frame"
    window: int = 100
    parts: tuple["Task", ...] = ()

    def each(self) -> Iterator[tuple["Task", slice, slice]]:
        """The plain tasks in this one, each with its slice of the outputs and of the label columns."""
        output = column = 0
        for part in self.parts or (self,):
            n_outputs, n_columns = len(part.outputs), len(part.columns)
            yield part, slice(output, output + n_outputs), slice(column, column + n_columns)
            output, column = output + n_outputs, column + n_columns

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
    measure="mean of CCC valence and CCC arousal",
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
    measure="macro F1 over 8 expressions",
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
    measure="mean F1 over 12 action units",
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
    measure="sum of the measures of va, expr and au",
    parts=(VA, EXPR, AU),
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
    measure="macro F1 over 6 expressions",
    level="image",
    window=1,
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
    measure="accuracy over 3 group emotions",
    level="video",
    window=75,
)
TASKS: dict[str, Task] = {task.name: task for task in (VA, EXPR, AU, MTL, LSD, VGAF)}


def get_task(name: str) -> Task:
    """The task called `name`; a UsageError lists the known ones."""
    if name not in TASKS:
        raise UsageError(f"Unknown task {name!r}. Choose one of: {', '.join(TASKS)}.")
    return TASKS[name]
