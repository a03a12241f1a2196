"""Score the tables of OpenFace, py-feat, LibreFace or anyone against the labels in a store; see `table_outputs`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from abaw.core.errors import DataError, UsageError, did_you_mean
from abaw.core.tasks import EXPR, TASKS, Task
from abaw.evaluate.evaluation import Evaluation, evaluate_predictions
from abaw.evaluate.predictions import VideoPrediction
from abaw.evaluate.submission.formats import task_of_header
from abaw.evaluate.submission.row_files import task_of_rows
from abaw.evaluate.table_coverage import TableCoverage
from abaw.evaluate.table_outputs import OutputColumns, find_outputs
from abaw.media.face_columns import PROBABILITY
from abaw.media.face_tables import FaceTable, header_of_table, open_table, read_rows
from abaw.store import FeatureStore
from abaw.store.feature_store import VideoLabels
from abaw.train.data.table import select_labels

Outputs = dict[str, tuple[NDArray[np.int64], NDArray[np.float32]]]  # by video: rows from 0, and their outputs


def are_tables(path: Path, task: Task | None = None) -> bool:
    """True for a table of faces, or a folder with one, that is no submission file.

    Raises:
        DataError: there is nothing at the path, or the folder is empty.
    """
    if not path.exists() and not path.is_symlink():
        raise DataError(f"There is no file or folder {path}. Correct --predictions.")
    if path.is_dir() and not any(path.glob("[!.]*")):
        raise DataError(f"The folder {path} is empty. Put the files of predictions in it, or correct --predictions.")
    files = sorted(path.glob("[!.]*.csv")) if path.is_dir() else [path]
    return any(open_table(file, _names(task)) is not None and not _is_submission(file) for file in files)


def _is_submission(path: Path) -> bool:
    header = ",".join(header_of_table(path))
    return task_of_header(header, "images") is not None or task_of_rows(header) is not None


def _names(task: Task | None) -> tuple[str, ...]:
    """Columns that a table may have for a task of one's own."""
    if task is None:
        return ()
    return (*task.outputs, *(f"{name}{PROBABILITY}" for name in task.outputs_of("classes")))


def score_tables(
    store: FeatureStore, task: Task | None, split: str, path: Path, threshold: float | None = None
) -> Evaluation:
    """Score tables on the labelled frames of a split: over all of them, and over those with a prediction.

    A labelled frame without a prediction takes that of the nearest frame of its video. No feature is needed.

    Args:
        task: what to score; outputs that the tables lack are left out of it, classes stay.
        path: a table, or a folder with tables.
        threshold: from which probability or intensity an action unit is on.

    Raises:
        UsageError: the tables have nothing of the task, or the store has no labels.
        DataError: a table is damaged, or none of its videos is labelled.
    """
    tables = _open(path, task)
    if task is None:
        raise _which_task(tables[0])
    chosen = find_outputs(task, tables[0], threshold)
    labels = select_labels(store, chosen.task, split)
    outputs, notes = _read(tables, chosen, threshold)
    _check_videos(path, outputs, labels, split)
    notes += _about_numbers(chosen.task, outputs, labels)
    predictions = _predictions(outputs, labels)
    evaluation = evaluate_predictions(chosen.task, predictions)
    absent = tuple(video for video in labels if not len(outputs.get(video, ((), ()))[0]))
    other = [video for video in outputs if video not in labels]
    if other:
        notes.append(
            f"{len(other)} videos of the tables have no {task.name} labels in {split}: {', '.join(other[:3])}."
        )
    coverage = TableCoverage(
        tables[0].program,
        evaluation.official.n_frames,
        evaluation.crop_only.n_frames,
        len(labels),
        absent,
        (*_about_outputs(task, chosen, evaluation), *notes),
    )
    return replace(evaluation, without_feature=(), coverage=coverage)


def _open(path: Path, task: Task | None) -> list[FaceTable]:
    files = sorted(path.glob("[!.]*.csv")) if path.is_dir() else [path]
    tables = [open_table(file, _names(task)) for file in files]
    return [table for table in tables if table is not None]


def _which_task(table: FaceTable) -> UsageError:
    known = []
    for name in ("va", "expr", "au"):
        try:
            find_outputs(TASKS[name], table)
            known.append(name)
        except UsageError:
            pass
    return UsageError(
        f"{table.path} ({table.program}) has columns of {', '.join(known) or 'no task'}. Choose with --task."
    )


def _read(tables: Sequence[FaceTable], chosen: OutputColumns, threshold: float | None) -> tuple[Outputs, list[str]]:
    """The outputs of each video, and what was noticed on the way."""
    outputs: Outputs = {}
    largest = np.full(len(chosen.columns), -np.inf)
    n_several = n_repeated = 0
    for table in tables:
        own = find_outputs(chosen.task, table, threshold)
        if [column.name for column in own.columns] != [column.name for column in chosen.columns]:
            raise DataError(
                f"{table.path} ({table.program}) has not the same columns of {chosen.task.name} as {tables[0].path.name} "
                f"({tables[0].program}). Move the tables of one of them into another folder, and score each."
            )
        for video, faces in read_rows(table, own.columns).items():
            if video in outputs:
                raise DataError(f"{table.path} has video {video!r}, which another table has too. Keep one.")
            whole = np.isfinite(faces.values).all(axis=1)
            values = faces.values[whole]
            largest = np.maximum(largest, values.max(axis=0, initial=-np.inf))
            outputs[video] = faces.numbers[whole] - 1, own.outputs_of(values, table)
            n_several, n_repeated = n_several + faces.n_several, n_repeated + faces.n_repeated
    notes = [f"{n_several:,} frames have several faces: the surest one is scored."] if n_several else []
    if n_repeated:
        notes.append(
            f"{n_repeated:,} frames are listed more than once: the surest row is scored, the first of equal ones."
        )
    low = [
        f"{name} (largest {most:g})"
        for name, form, most, least in zip(chosen.outputs, chosen.forms, largest, chosen.least, strict=False)
        if form == "intensity" and most < least
    ]
    if low:
        notes.append(f"Never on, for no intensity reaches {chosen.least[0]:g}: {', '.join(low[:4])}. See --threshold.")
    return outputs, notes


def _check_videos(path: Path, outputs: Outputs, labels: Mapping[str, VideoLabels], split: str) -> None:
    """Raise a DataError if no labelled frame has a prediction."""
    answers = {video: rows for video, (rows, _) in outputs.items() if len(rows)}
    if not answers:
        raise DataError(f"{path} has no row with a face and finite numbers. Write the tables again.")
    known = [video for video in answers if video in labels]
    if known and not any((answers[video] < len(labels[video].rows)).any() for video in known):
        lowest, n_rows = answers[known[0]].min() + 1, len(labels[known[0]].rows)
        raise DataError(
            f"{path} has no frame with a label: those of {known[0]} begin with {lowest}, and its labels end with "
            f"{n_rows}. Number frames as in the video file."
        )
    if not known:
        first = next(iter(answers))
        raise DataError(
            f"None of the {len(answers)} videos in {path} has labels in {split}; the first is {first!r}. "
            f"{did_you_mean(first, list(labels))}Name the tables, or their column `video`, like the videos."
        )


def _predictions(outputs: Outputs, labels: Mapping[str, VideoLabels]) -> dict[str, VideoPrediction]:
    mean = np.concatenate([values for _, values in outputs.values()]).mean(axis=0)
    predictions = {}
    for video, own in labels.items():
        n_rows = len(own.rows)
        rows, values = outputs.get(video, (np.zeros(0, np.int64), np.zeros((0, len(mean)), np.float32)))
        values = values[rows < n_rows]
        rows = rows[rows < n_rows]
        present = np.zeros(n_rows, dtype=np.bool_)
        present[rows] = True
        filled = nearest(rows, values, n_rows) if len(rows) else np.tile(mean, (n_rows, 1))
        predictions[video] = VideoPrediction(
            filled, own.rows.astype(np.float32), present, 0.0, own.doubles, person=own.person
        )
    return predictions


def _about_numbers(task: Task, outputs: Outputs, labels: Mapping[str, VideoLabels]) -> list[str]:
    """Sentences on frames after the last label, and on numbers out of the range of a regression."""
    notes = []
    late = {
        video: int((rows >= len(labels[video].rows)).sum()) for video, (rows, _) in outputs.items() if video in labels
    }
    if n_late := sum(late.values()):
        first = next(video for video, n in late.items() if n)
        notes.append(
            f"{n_late:,} frames come after the last label of their video and are not scored, the first in {first}, "
            f"which has {len(labels[first].rows):,}."
        )
    if task.kind == "regression":
        values = np.concatenate([values for _, values in outputs.values()])
        low, high = task.low, task.high
        for name, least, most in zip(task.outputs, values.min(axis=0), values.max(axis=0), strict=True):
            if least < low or most > high:
                notes.append(
                    f"{name} goes from {least:g} to {most:g}, and its labels from {low:g} to {high:g}: numbers beyond are clipped."
                )
    return notes


def nearest(rows: NDArray[np.int64], values: NDArray[np.float32], n_rows: int) -> NDArray[np.float32]:
    """(n_rows, outputs) of the nearest row with a value, of two equally near ones the earlier.

    Args:
        rows: ascending, at least one.
        values: (rows, outputs).
    """
    wanted = np.arange(n_rows)
    after = np.clip(np.searchsorted(rows, wanted), 0, len(rows) - 1)
    before = np.maximum(after - 1, 0)
    is_before = np.abs(wanted - rows[before]) <= np.abs(rows[after] - wanted)
    return values[np.where(is_before, before, after)]


def _about_outputs(task: Task, chosen: OutputColumns, evaluation: Evaluation) -> list[str]:
    """Sentences on what the tables lack, and how answers were made."""
    notes = []
    score = evaluation.official
    if task.kind == "classes":
        missing = [name for name in task.outputs if name not in chosen.outputs]
        names = {column.classes[column.part] if column.classes else column.name for column in chosen.columns}
        if task == EXPR and any("contempt" in name.lower() for name in names):
            notes.append("Contempt counts as Other.")
        if missing:
            others = [value for name, value in score.parts.items() if name not in missing]
            notes.append(
                f"The tables have no {', '.join(missing)}, whose F1 is 0; the mean over the {len(others)} others is "
                f"{np.mean(others):.3f}."
            )
        return notes
    missing = [name for name in task.outputs if name not in chosen.outputs]
    if missing:
        n_all = len(task.outputs)
        notes.append(
            f"The tables have {len(chosen.outputs)} of {n_all} outputs, without {', '.join(missing)}: the score is the mean "
            f"over those; with 0 for the others it is {score.score * len(chosen.outputs) / n_all:.3f}."
        )
    for form, text in (
        ("presence", "by presence"),
        ("probability", "where the probability is at least {:g}"),
        ("intensity", "where the intensity is at least {:g}"),
    ):
        units = [name for name, of in zip(chosen.outputs, chosen.forms, strict=False) if of == form]
        if units:
            least = chosen.least[chosen.forms.index(form)]
            listed = ", ".join(units) if len(units) < len(chosen.outputs) else "Action units"
            notes.append(f"{listed}: on {text.format(least)}.")
    return notes
