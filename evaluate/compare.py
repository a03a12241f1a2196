"""Comparison of two runs: their scores with intervals, and whether one is better."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from abaw.core.errors import UsageError
from abaw.core.files import or_null
from abaw.evaluate.ensemble import find_results
from abaw.evaluate.kept_scores import KEPT, find_kept
from abaw.evaluate.results import Results
from abaw.evaluate.scores.bootstrap import (
    FEW_UNITS,
    MIN_UNITS,
    N_DRAWS,
    Difference,
    check_same_labels,
    difference,
    interval,
    measures,
    n_units,
    noun_of_units,
)


@dataclass(frozen=True)
class Compared:
    """One measure of two runs.

    Attributes:
        values: values of the first and the second run.
        intervals: 95 % interval of each value, low and high; NaN where `abaw.evaluate.scores.bootstrap.interval` has none.
        difference: second minus first.
    """

    values: tuple[float, float]
    intervals: tuple[tuple[float, float], tuple[float, float]]
    difference: Difference


def compare(first: Results, second: Results) -> dict[str, Compared]:
    """Score, sub-scores and parts of two runs, under `abaw.evaluate.scores.metrics.measure_names`.

    Raises:
        UsageError: they have different tasks, videos or labels.
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
        name: Compared((values[0][name], values[1][name]), (intervals[0][name], intervals[1][name]), gain)
        for name, gain in difference(task, first.predictions, second.predictions).items()
    }


@dataclass(frozen=True)
class Comparison:
    """Two runs on a split, measure by measure.

    Attributes:
        results: saved predictions of the two runs.
        split: split of the predictions.
        measures: by the names of `measure_names`.
        n_units: labelled people, videos or images that are drawn for intervals and p-values.
    """

    results: tuple[Results, Results]
    split: str
    measures: dict[str, Compared]
    n_units: int

    @property
    def unit(self) -> str:
        """The plural noun for what is drawn."""
        return noun_of_units(self.results[0].predictions, self.results[0].task)

    @property
    def can_average(self) -> bool:
        """True if both are runs or ensembles, which can be averaged."""
        return not any((one.folder / KEPT).is_file() for one in self.results)

    def explain(self) -> str:
        """Two sentences on difference, intervals and p-values."""
        return (
            f"The difference is {self.results[1].name} less {self.results[0].name}. Intervals and p by drawing the "
            f"{self.unit} again {N_DRAWS:,} times, the same for both; p is not corrected for how many rows there are."
        )

    def warnings(self) -> list[str]:
        """Sentences on what the intervals and p-values cannot show, and why."""
        sentences = []
        if any(one.whole for one in self.results):
            outputs = ", ".join(self.results[0].task.outputs)
            sentences.append(f"Compared on the outputs that both have: {outputs}.")
        if self.n_units < MIN_UNITS:
            sentences.append(
                f"There are no intervals and no p: they need {MIN_UNITS} labelled {self.unit}, found {self.n_units}."
            )
        elif self.n_units < FEW_UNITS:
            sentences.append(f"With {self.n_units} labelled {self.unit} the intervals are rough and too narrow.")
        if self.n_units >= MIN_UNITS and any(
            math.isnan(measure.difference.p_value) for measure in self.measures.values()
        ):
            sentences.append(f"A row without p depends on so few {self.unit} that drawing them again cannot tell.")
        return sentences

    def as_json(self) -> dict[str, Any]:
        """`task`, `split`, `runs`, and under `scores` for each measure the values of both runs, their difference, its p-value."""
        first, second = self.results
        scores = {
            name: {
                "values": measure.values,
                "intervals": [[or_null(end) for end in ends] for ends in measure.intervals],
                "difference": measure.difference.estimate,
                "interval": [or_null(measure.difference.low), or_null(measure.difference.high)],
                "p_value": or_null(measure.difference.p_value),
            }
            for name, measure in self.measures.items()
        }
        return {"task": first.task.name, "split": self.split, "runs": [first.name, second.name], "scores": scores}


def compare_runs(runs: Path, names: tuple[str, str], split: str = "val", raw: bool = False) -> Comparison:
    """Compare the saved predictions of two runs, ensembles, or what `abaw eval --keep` kept; see `compare`.

    Where one has some of the outputs of the other, such as a program with fewer action units, these are compared.

    Args:
        runs: folder of the runs.
        names: names of runs or ensembles in it, or their folders.
        raw: compare without post-processing.
    """
    found = [find_kept(runs, name, split) or find_results(runs, name, split, raw) for name in names]
    first, second = on_common_outputs(*found)
    return Comparison((first, second), split, compare(first, second), n_units(first.task, first.predictions))


def on_common_outputs(first: Results, second: Results) -> tuple[Results, Results]:
    """Two results of one task with the outputs that both have; as they are if they have the same, or different tasks."""
    whole, other = (one.task.selected_from or one.task for one in (first, second))
    common = [name for name in first.task.outputs if name in second.task.outputs]
    if first.task == second.task or whole != other or not common or whole.kind not in ("regression", "binary"):
        return first, second
    task = whole.only(common)
    return tuple(one if one.task == task else one.only(task) for one in (first, second))  # type: ignore[return-value]
