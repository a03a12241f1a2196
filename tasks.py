"""The tasks of the field: what a label row holds, what a head must output, and the measure to maximise.

A task is data alone: no dataset, loader or model lives here. Formats and measures are those of the ABAW
challenges on Aff-Wild2.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from abaw.errors import UsageError

EXPRESSIONS = ("Neutral", "Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise", "Other")
ACTION_UNITS = ("AU1", "AU2", "AU4", "AU6", "AU7", "AU10", "AU12", "AU15", "AU23", "AU24", "AU25", "AU26")

Kind = Literal["regression", "classes", "binary"]


@dataclass(frozen=True)
class Task:
    """One prediction task.

    Attributes:
        name: what the command line calls it.
        kind: `regression` (one real number per output), `classes` (one integer label, one logit per output)
            or `binary` (one 0/1 label and one logit per output).
        outputs: names of the head's outputs; their number is the width of a prediction row.
        columns: names of a label row's values.
        invalid: the value that marks a label as not annotated; it masks that value alone.
        low, high: inclusive range of a valid label.
        loss: default loss, a name of `abaw.train.losses.LOSSES`.
        measure: what `score` is, in words.
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

    def valid(self, labels: NDArray) -> NDArray[np.bool_]:
        """True where a label value is annotated.

        Args:
            labels: (..., columns) as published, invalid values kept.
        """
        return labels != self.invalid


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task(
            name="va",
            kind="regression",
            outputs=("valence", "arousal"),
            columns=("valence", "arousal"),
            invalid=-5,
            low=-1,
            high=1,
            loss="ccc",
            measure="mean of CCC valence and CCC arousal",
        ),
        Task(
            name="expr",
            kind="classes",
            outputs=EXPRESSIONS,
            columns=("expression",),
            invalid=-1,
            low=0,
            high=len(EXPRESSIONS) - 1,
            loss="cross-entropy",
            measure="macro F1 over 8 expressions",
        ),
        Task(
            name="au",
            kind="binary",
            outputs=ACTION_UNITS,
            columns=ACTION_UNITS,
            invalid=-1,
            low=0,
            high=1,
            loss="bce",
            measure="mean F1 over 12 action units",
        ),
    )
}


def get_task(name: str) -> Task:
    """The task called `name`; a UsageError lists the known ones."""
    if name not in TASKS:
        raise UsageError(f"Unknown task {name!r}. Choose one of: {', '.join(TASKS)}.")
    return TASKS[name]
