"""Weights of runs for single outputs of an ensemble: `va=RUN` takes one part of a run, `--weight RUN:valence=2` weighs it."""

import fnmatch
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from abaw.core.errors import UsageError, did_you_mean
from abaw.core.tasks import Task

ByOutput = Mapping[str, tuple[float, ...]]  # of some outputs, the weights of all runs, sum 1


def split_names(runs: Path, names: Sequence[str]) -> list[tuple[str, str]]:
    """Of each `RUN` or `PART=RUN` the part (an output or a part of the task; empty for all outputs) and the run."""
    pairs = []
    for name in names:
        part, equals, run = name.partition("=")
        has_part = bool(equals) and not (runs / name).exists() and "/" not in part
        pairs.append((part, run) if has_part else ("", name))
    return pairs


def weigh_outputs(
    task: Task,
    members: Sequence[str],
    weights: Sequence[float],
    pairs: Sequence[tuple[str, str]] = (),
    settings: Sequence[str] = (),
) -> dict[str, tuple[float, ...]]:
    """The weights of runs for the outputs that have others than `weights`.

    Args:
        members: names of the runs.
        weights: of the runs, above 0.
        pairs: from `split_names`. A run that is named with parts alone counts for these outputs only.
        settings: `RUN:OUTPUT=WEIGHT`, in the unit of `weights`, 0 or more; OUTPUT may be a part of the task.

    Raises:
        UsageError: a name or weight is wrong, or no run is left for an output, or no output for a run.
    """
    table = np.repeat(np.array(weights, dtype=np.float64)[:, None], len(task.outputs), axis=1)
    for row, member in enumerate(members):
        parts = [part for part, run in pairs if fnmatch.fnmatch(member, run) or Path(run).name == member]
        if parts and all(parts):
            table[row, sorted({*range(len(task.outputs))} - {i for part in parts for i in _columns(task, part)})] = 0
    for setting in settings:
        row, columns, weight = _parse(task, members, setting)
        table[row, columns] = weight
    for name, column in zip(task.outputs, table.T, strict=True):
        if not column.any():
            raise UsageError(f"No run is left for {name} of task {task.name}. Add one that is for all outputs.")
    for member, row_weights in zip(members, table, strict=True):
        if not row_weights.any():
            raise UsageError(f"Run {member} has no weight for any output. Leave it out.")
    _check_classes(task, table)
    others = np.flatnonzero((table != np.array(weights)[:, None]).any(axis=0))
    return {task.outputs[i]: tuple((table[:, i] / math.fsum(table[:, i])).tolist()) for i in others}


def describe_outputs(task: Task, members: Sequence[str], by_output: ByOutput) -> str:
    """The weights for outputs as words, such as `va: one (0.667), two (0.333); AU1: two (1)`; empty without any."""
    names_of: dict[tuple[float, ...], list[str]] = {}
    for name, column in by_output.items():
        names_of.setdefault(column, []).append(name)
    groups = []
    for column, names in names_of.items():
        for part in task.parts:  # the name of a part stands for all its outputs
            if set(part.outputs) <= set(names):
                names[names.index(part.outputs[0])] = part.name
                names = [name for name in names if name not in part.outputs]
        runs = (f"{member} ({weight:.3g})" for member, weight in zip(members, column, strict=True) if weight)
        groups.append(f"{', '.join(names)}: {', '.join(runs)}")
    return "; ".join(groups)


def _columns(task: Task, name: str) -> list[int]:
    """Indices of an output, or of the outputs of a part of the task."""
    groups = {part.name: range(outputs.start, outputs.stop) for part, outputs, _ in task.each()}
    if name in groups:
        return list(groups[name])
    if name in task.outputs:
        return [task.outputs.index(name)]
    known = [*(groups if task.parts else ()), *task.outputs]
    raise UsageError(
        f"Task {task.name} has no output {name!r}. {did_you_mean(name, known)}Choose from: {', '.join(known)}."
    )


def _parse(task: Task, members: Sequence[str], setting: str) -> tuple[int, list[int], float]:
    """Row of the run, columns of the outputs, and the weight of `RUN:OUTPUT=WEIGHT`."""
    target, _, text = setting.rpartition("=")
    run, _, output = target.rpartition(":")
    try:
        weight = float(text)
    except ValueError:
        weight = math.nan
    if not run or not output or not (math.isfinite(weight) and weight >= 0):
        raise UsageError(f"--weight needs RUN:OUTPUT=WEIGHT, such as va-1:valence=2, 0 or more; found {setting!r}.")
    if run not in members:
        raise UsageError(f"--weight {setting}: run {run!r} is not in the ensemble. Choose from: {', '.join(members)}.")
    return members.index(run), _columns(task, output), weight


def _check_classes(task: Task, table: NDArray[np.float64]) -> None:
    """Raise a UsageError if the classes of a task have different weights: their probabilities sum to 1 together."""
    for part, outputs, _ in task.each():
        if part.kind == "classes" and (table[:, outputs] != table[:, outputs.start : outputs.start + 1]).any():
            raise UsageError(f"Classes are averaged together. Name {part.name} rather than a single class.")
