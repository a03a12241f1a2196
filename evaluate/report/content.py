"""The content of a report: runs with their predictions, scores, curves and settings."""

import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from abaw.core.errors import UsageError
from abaw.core.json_files import read_json
from abaw.core.tasks import Task
from abaw.evaluate.ensemble import find_results
from abaw.evaluate.predictions import VideoPrediction, read_store, stack_labels
from abaw.evaluate.results import Results
from abaw.evaluate.scores.bootstrap import interval
from abaw.evaluate.scores.calibration import row_errors
from abaw.evaluate.scores.metrics import Score, score
from abaw.train.run_files import CONFIG, ENSEMBLE, find_folder, predictions_file, read_epochs
from abaw.train.runs import open_run


@dataclass(frozen=True)
class Reported:
    """A run in a report.

    Attributes:
        name: of the run.
        predictions: by video, post-processed if the evaluation was.
        raw: by video, before post-processing.
        official, crop_only: scores of `predictions` over all labelled rows, and over those with a crop.
        raw_score: official score of `raw`.
        intervals: 95 % interval of the official score and its parts, by the names of `measure_names`.
        thresholds: by action unit, the probability above which it is on; one half for the others.
        origin: of the post-processing, with its note; empty without post-processing.
        epochs: lines of `metrics.jsonl`; empty for a run that is fitted in one step, and for an ensemble.
        settings: its config, with dotted names.
    """

    name: str
    predictions: Mapping[str, VideoPrediction]
    raw: Mapping[str, VideoPrediction]
    official: Score
    crop_only: Score
    raw_score: float
    intervals: Mapping[str, tuple[float, float]]
    thresholds: Mapping[str, float]
    origin: str
    epochs: Sequence[Mapping[str, float]]
    settings: Mapping[str, str]


def load_runs(runs: Path, names: Sequence[str], split: str) -> tuple[Task, list[Reported]]:
    """Read the predictions of runs for a split.

    Args:
        runs: folder of the runs.
        names: of runs or ensembles in that folder, or paths of their folders.

    Raises:
        UsageError: they have different tasks, or one has not been evaluated on the split.
        CheckpointError: the files of a run are damaged.
    """
    all_results = [find_results(runs, name, split) for name in names]
    if len({results.task for results in all_results}) > 1:
        listed = ", ".join(f"{results.name} ({results.task.name})" for results in all_results)
        raise UsageError(f"A report compares runs of one task, found {listed}. Make a report for each task.")
    return all_results[0].task, [_report_on_results(results) for results in all_results]


def describe_origin(
    runs: Path, names: Sequence[str], split: str, out: Path, data: Path | None, has_faces: bool
) -> dict[str, str]:
    """What a report says of its origin: the command, and the folders of the runs, the data and the store."""
    words = ["abaw", "report", *names, "--split", split, "--runs", str(runs), "--out", str(out)]
    words += ["--data", str(data)] if data is not None else []
    about = {"command": shlex.join(words), "runs": f"{', '.join(names)} in {runs}"}
    if data is not None:
        about["data"] = f"{data}" if has_faces else f"{data}, which was not there: no faces are shown"
    folders = (find_folder(runs, name, CONFIG, ENSEMBLE) for name in names)
    places = (read_store(predictions_file(folder, split)) for folder in folders)
    stores = dict.fromkeys(place for place in places if place)
    return about | ({"store": ", ".join(stores)} if stores else {})


def _report_on_results(results: Results) -> Reported:
    tuning = results.tuning
    return report_on(
        results.name,
        results.task,
        results.predictions,
        results.raw if tuning else None,
        tuning.postprocess.thresholds if tuning else {},
        f"{results.origin}. {results.note}".strip() if results.origin else "",
        read_epochs(results.folder),
        _settings(results.folder),
    )


def report_on(
    name: str,
    task: Task,
    predictions: Mapping[str, VideoPrediction],
    raw: Mapping[str, VideoPrediction] | None = None,
    thresholds: Mapping[str, float] | None = None,
    origin: str = "",
    epochs: Sequence[Mapping[str, float]] = (),
    settings: Mapping[str, str] | None = None,
) -> Reported:
    """Score predictions for a report; see `Reported`. Without `raw` they are not post-processed."""
    outputs, labels, present = stack_labels(predictions.values())
    official = score(task, outputs, labels)
    raw_score = score(task, stack_labels(raw.values())[0], labels).score if raw is not None else official.score
    return Reported(
        name,
        predictions,
        predictions if raw is None else raw,
        official,
        score(task, outputs[present], labels[present]),
        raw_score,
        interval(task, predictions),
        thresholds or {},
        origin,
        epochs,
        settings or {},
    )


def _settings(folder: Path) -> dict[str, str]:
    """How a run was trained, or the members of an ensemble."""
    if not (folder / ENSEMBLE).is_file():
        return _flat(open_run(folder).config.model_dump(mode="json"))
    return _flat(read_json(folder / ENSEMBLE))


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return flat


@dataclass(frozen=True)
class VideoErrors:
    """Errors of each run on a video.

    Attributes:
        video: its name.
        predictions: of each run; None where a run lacks the video, or has other frames than the first.
        by_part: for each plain task the error of each run; NaN without a valid label. See `row_errors`.
        rows: (rows,) error of the first run that has the video, summed over the plain tasks; NaN without a label.
    """

    video: str
    predictions: Sequence[VideoPrediction | None]
    by_part: Sequence[Sequence[float]]
    rows: NDArray[np.float64]

    @property
    def first(self) -> VideoPrediction:
        """The prediction of the first run that has the video."""
        return next(prediction for prediction in self.predictions if prediction is not None)

    @property
    def total(self) -> float:
        """Error of the first run that has the video, summed over the plain tasks; -1 without a label."""
        sums = [sum(value for value in values if not math.isnan(value)) for values in zip(*self.by_part, strict=True)]
        known = [not all(map(math.isnan, values)) for values in zip(*self.by_part, strict=True)]
        return next((total for total, is_known in zip(sums, known, strict=True) if is_known), -1.0)


def videos_by_error(task: Task, runs: Sequence[Reported]) -> list[VideoErrors]:
    """All videos of all runs, in descending order of the first run's error."""
    names = dict.fromkeys(video for run in runs for video in run.predictions)
    errors = [_video_errors(task, video, [run.predictions.get(video) for run in runs]) for video in names]
    return sorted(errors, key=lambda video: -video.total)


def _video_errors(task: Task, video: str, predictions: Sequence[VideoPrediction | None]) -> VideoErrors:
    n_rows = next(len(prediction.outputs) for prediction in predictions if prediction is not None)
    comparable = [
        prediction if prediction is not None and len(prediction.outputs) == n_rows else None
        for prediction in predictions
    ]
    by_run = [[] if prediction is None else list(_part_errors(task, prediction)) for prediction in comparable]
    n_parts = len(list(task.each()))
    by_part = [[_mean(errors[part]) if errors else math.nan for errors in by_run] for part in range(n_parts)]
    first = np.stack(next(errors for errors in by_run if errors))[:, :n_rows]
    rows = np.where(np.isnan(first).all(axis=0), np.nan, np.nansum(first, axis=0))
    return VideoErrors(video, comparable, by_part, rows)


def _part_errors(task: Task, prediction: VideoPrediction) -> Iterator[NDArray[np.float64]]:
    """For each plain task the errors of all rows, then those by second labels of rows that are labelled twice."""
    rows = prediction.by_label()
    for part, outputs, columns in task.each():
        yield row_errors(part, rows.outputs[:, outputs], rows.labels[:, columns])


def _mean(errors: NDArray[np.float64]) -> float:
    known = errors[~np.isnan(errors)]
    return float(known.mean()) if len(known) else math.nan
