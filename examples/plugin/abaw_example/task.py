"""A task: the intensity of pain at each frame, from 0 to 1."""

from abaw.core.tasks import Measure, Task

PAIN = Task(
    name="pain",
    kind="regression",
    outputs=("pain",),
    columns=("pain",),
    invalid=-5,
    low=0,
    high=1,
    loss="ccc",
    measure=Measure("CCC of pain", "CCC", "ccc"),
)
