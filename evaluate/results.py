"""What `abaw eval` left in a run's folder: predictions of a split, with the run's post-processing applied."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from abaw.errors import CheckpointError, UsageError
from abaw.evaluate.predict import VideoPrediction, load_predictions
from abaw.evaluate.tuning import load_tuning
from abaw.tasks import Task, get_task
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
        UsageError: there are none; says which command makes them.
        CheckpointError: the file is damaged.
    """
    task = get_task(run.config.task)
    predictions = read_predictions(run.folder, split, task)
    tuning = None if raw else load_tuning(run)
    if tuning is None:
        return Results(run.name, run.folder, task, predictions)
    processed = tuning.postprocess.apply_to(task, predictions)
    return Results(run.name, run.folder, task, processed, tuning.origin, tuning.note(predictions))


def read_predictions(folder: Path, split: str, task: Task, command: str = "eval") -> dict[str, VideoPrediction]:
    """Predictions of a split in a folder; errors as those of `run_results`.

    Args:
        command: of `abaw`, that makes them.
    """
    path = folder / f"predictions-{split}.h5"
    remedy = f"Make it with `abaw {command} {folder.name} --split {split}`."
    if not path.is_file():
        raise UsageError(f"{folder.name} has no {path.name}. {remedy}")
    try:
        found = load_predictions(path)
    except (OSError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{path} is damaged ({error}). {remedy}") from error
    for video, one in found.items():
        shapes = (one.outputs.shape, one.labels.shape, one.present.shape)
        n_rows = len(one.outputs)
        if shapes != ((n_rows, len(task.outputs)), (n_rows, len(task.columns)), (n_rows,)):
            raise CheckpointError(f"{path} has {shapes} for {video}, which is not of task {task.name}. {remedy}")
    if not found:
        raise CheckpointError(f"{path} has no videos. {remedy}")
    return found
