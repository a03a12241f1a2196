"""Two runs beside each other: their scores, how sure these are, and whether one is better."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from abaw.core.errors import UsageError
from abaw.evaluate.results import Results
from abaw.evaluate.scores.bootstrap import Difference, check_same_labels, difference, interval, measures


@dataclass(frozen=True)
class Compared:
    """One measure of two runs.

    Attributes:
        values: of the first and of the second run.
        intervals: 95 %, low and high, of each; NaN as `abaw.evaluate.scores.bootstrap.interval` says.
        difference: second less first.
    """

    values: tuple[float, float]
    intervals: tuple[tuple[float, float], tuple[float, float]]
    difference: Difference


def compare(first: Results, second: Results) -> dict[str, Compared]:
    """Score, sub-scores and parts of two runs, under `abaw.evaluate.scores.metrics.measure_names`.

    Raises:
        UsageError: they are of different tasks, videos or labels.
    """
    task = first.task
    if second.task != task:
        raise UsageError(
            f"{first.name} is of task {task.name}, {second.name} of {second.task.name}. Compare runs of one task."
        )
    check_same_labels(task, first.predictions, second.predictions, (first.name, second.name))
    values = [measures(task, run.predictions) for run in (first, second)]
    intervals = [interval(task, run.predictions) for run in (first, second)]
    return {
        name: Compared((values[0][name], values[1][name]), (intervals[0][name], intervals[1][name]), found)
        for name, found in difference(task, first.predictions, second.predictions).items()
    }


def as_json(first: Results, second: Results, split: str, found: Mapping[str, Compared]) -> dict[str, Any]:
    """`task`, `split`, `runs`, and under `scores` each measure: of both runs, their difference and its p-value."""
    scores = {
        name: {
            "values": one.values,
            "intervals": [[_number(end) for end in ends] for ends in one.intervals],
            "difference": one.difference.estimate,
            "interval": [_number(one.difference.low), _number(one.difference.high)],
            "p_value": _number(one.difference.p_value),
        }
        for name, one in found.items()
    }
    return {"task": first.task.name, "split": split, "runs": [first.name, second.name], "scores": scores}


def _number(value: float) -> float | None:
    """JSON has no NaN."""
    return None if math.isnan(value) else value
