"""Predictions of other programs that `abaw eval --keep` puts next to runs, where `abaw compare` finds them.

The folder has `predictions-<split>.h5` and `scores-<split>.json`, as that of a run, and `tables.json`: the task, and where
the predictions came from.
"""

from pathlib import Path
from typing import Any

from abaw import __version__
from abaw.core.claim_files import claimed
from abaw.core.errors import CheckpointError, UsageError
from abaw.core.files import save_json
from abaw.core.json_files import parse_json
from abaw.core.names import check_name
from abaw.core.tasks import record_for, recorded_task
from abaw.evaluate.evaluation import Evaluation
from abaw.evaluate.kept_folders import KEPT, find_kept_folder
from abaw.evaluate.predictions import save_predictions
from abaw.evaluate.results import Results, read_predictions
from abaw.train.run_files import predictions_file, scores_file
from abaw.train.run_folders import is_taken

LARGEST = 2**20  # characters


def keep(evaluation: Evaluation, runs: Path, name: str, split: str, source: Path, store: str) -> Path:
    """Write predictions and scores into the folder `runs/name`; what an earlier call wrote for the split is replaced.

    Args:
        source: the file or folder that the predictions came from.
        store: path or URL of the store with the labels.

    Raises:
        UsageError: the name is that of a run or ensemble, or of predictions of another task.
    """
    folder, task = runs / check_name(name, "folder"), evaluation.task
    runs.mkdir(parents=True, exist_ok=True)
    with claimed(folder):
        if is_taken(folder) and not (folder / KEPT).is_file():
            raise UsageError(f"{folder} already exists and has no predictions of --keep. Choose another name.")
        if (folder / KEPT).is_file() and (known := _read(folder)["task"]) != task.name:
            raise UsageError(
                f"{folder} has predictions of task {known}, these are of {task.name}. Choose another name."
            )
        folder.mkdir(exist_ok=True)
        record = {"abaw": __version__, "source": str(source), "task": task.name, "record": record_for(task)}
        save_json(folder / KEPT, record)
        save_predictions(predictions_file(folder, split), evaluation.predictions, task, store=store)
        save_json(scores_file(folder, split), evaluation.as_json(split, name))
    return folder


def find_kept(runs: Path, name: str, split: str) -> Results | None:
    """The predictions that `keep` wrote under a name, or in a folder; None if there is nothing of this name.

    Raises:
        UsageError: there are none of this split.
        CheckpointError: a file is damaged.
    """
    folder = find_kept_folder(runs, name)
    if folder is None:
        return None
    content = _read(folder)
    task = recorded_task(str(content["task"]), content.get("record"))
    return Results(folder.name, folder, task, read_predictions(folder, split, task))


def _read(folder: Path) -> dict[str, Any]:
    path = folder / KEPT
    try:
        with path.open(encoding="utf-8") as stream:
            content = parse_json(stream.read(LARGEST))
        if not isinstance(content, dict) or not isinstance(content.get("task"), str):
            raise ValueError("it names no task")
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is damaged ({error}). Keep the predictions again with `abaw eval --keep`."
        ) from error
    return content
