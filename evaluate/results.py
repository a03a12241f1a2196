"""What `abaw eval` left in a run's folder: predictions of a split, with the run's post-processing applied."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from abaw.core.doubles import Doubles
from abaw.core.errors import CheckpointError, UsageError
from abaw.core.tasks import Task, get_task
from abaw.evaluate.postprocessing.tuning import load_tuning
from abaw.evaluate.predictions import VideoPrediction, load_predictions, read_made_from
from abaw.train.runs import Run


@dataclass(frozen=True)
class Results:
    """Saved predictions of a run, or of an ensemble of runs.

    Attributes:
        name: of the folder.
        folder: where they lie.
        task: what is predicted.
        predictions: by video, with labels.
        origin: of the post-processing that was applied, in words; empty if there was none.
        note: what must be said of scores on these videos; empty if there is nothing.
    """

    name: str
    folder: Path
    task: Task
    predictions: Mapping[str, VideoPrediction]
    origin: str = ""
    note: str = ""


def run_results(run: Run, split: str, raw: bool = False) -> Results:
    """The predictions that `abaw eval` made by a run.

    Args:
        raw: leave out the post-processing that `abaw tune` fitted.

    Raises:
        UsageError: there are none, or they are of another checkpoint; says which command makes them.
        CheckpointError: the file is damaged.
    """
    task = get_task(run.config.task)
    return results_of(run, read_current(run.folder, split, task, run.digest()), raw)


def results_of(run: Run, predictions: Mapping[str, VideoPrediction], raw: bool = False) -> Results:
    """Predictions of a run with its post-processing, unless `raw`."""
    task = get_task(run.config.task)
    tuning = None if raw else load_tuning(run)
    if tuning is None:
        return Results(run.name, run.folder, task, predictions)
    processed = tuning.postprocess.apply_to(task, predictions)
    return Results(run.name, run.folder, task, processed, tuning.origin, tuning.note(predictions))


def read_current(folder: Path, split: str, task: Task, made_from: str) -> dict[str, VideoPrediction]:
    """Predictions of a split in a folder, if they are of the checkpoints that are there now; errors as `run_results`.

    Args:
        made_from: digest of these checkpoints.
    """
    found = read_predictions(folder, split, task)
    path, remedy = _place(folder, split)
    with _damage_named(path, remedy):
        written = read_made_from(path)
    if not written:
        raise UsageError(f"{folder.name} has a {path.name} that does not say of which checkpoint it is. {remedy}")
    if written != made_from:
        raise UsageError(f"{folder.name} has changed since its {path.name} was made. {remedy}")
    return found


def read_predictions(folder: Path, split: str, task: Task) -> dict[str, VideoPrediction]:
    """Predictions of a split in a folder, whatever they are of; errors as those of `run_results`."""
    path, remedy = _place(folder, split)
    if not path.is_file():
        raise UsageError(f"{folder.name} has no {path.name}. {remedy}")
    with _damage_named(path, remedy):
        found = load_predictions(path)
    for video, one in found.items():
        shapes = (one.outputs.shape, one.labels.shape, one.present.shape)
        n_rows = len(one.outputs)
        wanted = ((n_rows, len(task.outputs)), (n_rows, len(task.columns)), (n_rows,))
        if shapes != wanted or not _are_of_rows(one.doubles, n_rows, len(task.columns)):
            raise CheckpointError(f"{path} has {shapes} for {video}, which is not of task {task.name}. {remedy}")
    if not found:
        raise CheckpointError(f"{path} has no videos. {remedy}")
    return found


def _are_of_rows(doubles: Doubles | None, n_rows: int, n_columns: int) -> bool:
    """True if further labels are of rows that are there, in their order."""
    if doubles is None:
        return True
    rows = doubles.rows
    if rows.ndim != 1 or not len(rows) or doubles.labels.shape != (len(rows), n_columns):
        return False
    return bool((np.diff(rows) >= 0).all() and rows[0] >= 0 and rows[-1] < n_rows)


def _place(folder: Path, split: str) -> tuple[Path, str]:
    """The file of predictions, and how to make it."""
    return folder / f"predictions-{split}.h5", f"Make it with `abaw eval {folder.name} --split {split}`."


@contextmanager
def _damage_named(path: Path, remedy: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # HDF5 raises many types, and finds damage only where it reads
        raise CheckpointError(f"{path} is damaged ({str(error)[:200]}). {remedy}") from error
