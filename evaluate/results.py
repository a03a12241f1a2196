"""Predictions that `abaw eval` saved in the folder of a run or ensemble, with the run's post-processing applied."""

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from abaw.core.doubles import Doubles
from abaw.core.errors import CheckpointError, UsageError
from abaw.core.row_table import RowTable
from abaw.core.tasks import Task
from abaw.evaluate.postprocessing.tuning import Tuning, load_tuning
from abaw.evaluate.prediction_table import prediction_table
from abaw.evaluate.predictions import VideoPrediction, load_predictions, read_made_from
from abaw.train.run_files import predictions_file
from abaw.train.runs import Run


@dataclass(frozen=True)
class Results:
    """Predictions of a run or of an ensemble.

    Attributes:
        name: folder name.
        folder: folder of the run or ensemble.
        task: task of the predictions.
        raw: by video, with labels, before post-processing.
        tuning: the post-processing of a run; None without post-processing.
        whole: for some outputs alone, all that they are taken from.
    """

    name: str
    folder: Path
    task: Task
    raw: Mapping[str, VideoPrediction]
    tuning: Tuning | None = None
    whole: "Results | None" = None

    @cached_property
    def predictions(self) -> Mapping[str, VideoPrediction]:
        """By video, with labels, post-processed if there is a tuning."""
        return self.tuning.apply_to(self.task, self.raw) if self.tuning else self.raw

    def table(self) -> RowTable:
        """The predictions as rows; see `prediction_table`."""
        return prediction_table(self.task, self.predictions)

    @property
    def origin(self) -> str:
        """Where the applied post-processing comes from, such as `fitted on folds`; empty without post-processing."""
        if self.whole:
            return self.whole.origin
        return self.tuning.origin if self.tuning else ""

    @property
    def note(self) -> str:
        """A sentence if scores on these videos are optimistic, else empty."""
        if self.whole:
            return self.whole.note
        return self.tuning.note(self.raw) if self.tuning else ""

    def only(self, task: Task) -> "Results":
        """Some of the outputs, post-processed.

        Args:
            task: with some of the outputs of this one, whose outputs have a label column each.
        """
        places = [self.task.outputs.index(name) for name in task.outputs]
        taken = {}
        for video, one in self.predictions.items():
            doubles = one.doubles and Doubles(one.doubles.rows, one.doubles.labels[:, places])
            taken[video] = replace(
                one, outputs=one.outputs[:, places], labels=one.labels[:, places], doubles=doubles, confident=None
            )
        return Results(self.name, self.folder, task, taken, whole=self)


def run_results(run: Run, split: str, raw: bool = False) -> Results:
    """The predictions of a run that `abaw eval` saved; an entry point, by which `Run.predictions` finds it.

    Args:
        raw: without the post-processing that `abaw tune` fitted.

    Raises:
        UsageError: the predictions are missing or come from another checkpoint; the message names the command to run.
        CheckpointError: the file is damaged.
    """
    predictions = read_current(run.folder, split, run.task, run.digest())
    return Results(run.name, run.folder, run.task, predictions, None if raw else load_tuning(run))


def read_current(folder: Path, split: str, task: Task, digest: str) -> dict[str, VideoPrediction]:
    """The saved predictions of a split, if they come from the current checkpoints; raises like `run_results`.

    Args:
        digest: digest of the current checkpoints.
    """
    predictions = read_predictions(folder, split, task)
    path, remedy = _file_and_remedy(folder, split)
    made_from = read_digest(folder, split)
    if not made_from:
        raise UsageError(f"{folder.name} has a {path.name} that does not name its checkpoint. {remedy}")
    if made_from != digest:
        raise UsageError(f"{folder.name} has changed since its {path.name} was written. {remedy}")
    return predictions


def read_predictions(folder: Path, split: str, task: Task) -> dict[str, VideoPrediction]:
    """The saved predictions of a split, whichever checkpoints they come from; raises like `run_results`."""
    path, remedy = _file_and_remedy(folder, split)
    with _damage_as_error(path, remedy):
        predictions = load_predictions(path)
    for video, prediction in predictions.items():
        n_rows = len(prediction.outputs)
        shapes = (prediction.outputs.shape, prediction.labels.shape, prediction.present.shape)
        expected = ((n_rows, len(task.outputs)), (n_rows, len(task.columns)), (n_rows,))
        if shapes != expected or not _are_valid(prediction.doubles, n_rows, len(task.columns)):
            raise CheckpointError(f"{path} has {shapes} for {video}, which does not fit task {task.name}. {remedy}")
    if not predictions:
        raise CheckpointError(f"{path} has no videos. {remedy}")
    return predictions


def read_digest(folder: Path, split: str) -> str:
    """The digest of the checkpoints that saved predictions come from, empty if unknown; raises like `run_results`."""
    path, remedy = _file_and_remedy(folder, split)
    with _damage_as_error(path, remedy):
        return read_made_from(path)


def _are_valid(doubles: Doubles | None, n_rows: int, n_columns: int) -> bool:
    """True if second labels belong to existing rows, in ascending order."""
    if doubles is None:
        return True
    rows = doubles.rows
    if rows.ndim != 1 or not len(rows) or doubles.labels.shape != (len(rows), n_columns):
        return False
    return bool((np.diff(rows) >= 0).all() and rows[0] >= 0 and rows[-1] < n_rows)


def _file_and_remedy(folder: Path, split: str) -> tuple[Path, str]:
    """The file of predictions, and a sentence on how to create it; a UsageError if there is none."""
    path, remedy = (
        predictions_file(folder, split),
        f"Create it with `abaw eval {shlex.quote(folder.name)} --split {split}`.",
    )
    if not path.is_file():
        raise UsageError(f"{folder.name} has no {path.name}. {remedy}")
    return path, remedy


@contextmanager
def _damage_as_error(path: Path, remedy: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # HDF5 raises many types of errors, and only when it reads the damaged part
        raise CheckpointError(f"{path} is damaged ({str(error)[:200]}). {remedy}") from error
