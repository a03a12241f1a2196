"""The weighted mean of predictions of several runs, which may have different outputs of one task."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from abaw.core.errors import UsageError
from abaw.core.tasks import Task
from abaw.evaluate.output_weights import ByOutput
from abaw.evaluate.predictions import VideoPrediction
from abaw.evaluate.scores.bootstrap import same_labels


def joint_task(tasks: Sequence[Task]) -> Task:
    """The task with every output that one of these has; all are the same task, or some of its outputs."""
    whole = tasks[0].selected_from or tasks[0]
    present = {name for task in tasks for name in task.outputs}
    return whole.only([name for name in whole.outputs if name in present])


def combine_outputs(
    task: Task,
    parts: Sequence[tuple[Task, Mapping[str, VideoPrediction]]],
    weights: Sequence[float],
    by_output: ByOutput | None = None,
) -> dict[str, VideoPrediction]:
    """`combine` for runs that may have different outputs of a task: each output is averaged over the runs that have it.

    Args:
        task: with the outputs of all runs, see `joint_task`.
        parts: task and predictions by video of each run. Videos that lack an output are left out.
        by_output: see `combine`.
    """
    if all(own == task for own, _ in parts):
        return combine(task, [predictions for _, predictions in parts], weights, by_output)
    columns = []
    for name in task.outputs:
        numbers = [number for number, (own, _) in enumerate(parts) if name in own.outputs]
        each = [_one_output(parts[number][1], parts[number][0].outputs.index(name)) for number in numbers]
        column = (by_output or {}).get(name, weights)
        columns.append(combine(task.only([name]), each, by_output={name: tuple(column[number] for number in numbers)}))
    videos = [video for video in columns[0] if all(video in column for column in columns)]
    return {video: _side_by_side(task, [column[video] for column in columns]) for video in videos}


def _one_output(predictions: Mapping[str, VideoPrediction], number: int) -> dict[str, VideoPrediction]:
    own = slice(number, number + 1)
    return {
        video: replace(
            prediction,
            outputs=prediction.outputs[:, own],
            labels=prediction.labels[:, own],
            doubles=prediction.doubles and prediction.doubles.columns(own),
        )
        for video, prediction in predictions.items()
    }


def _side_by_side(task: Task, columns: Sequence[VideoPrediction]) -> VideoPrediction:
    """Predictions of a video, one for each output, as one; their labels are of one store."""
    n_rows = max(len(column.outputs) for column in columns)
    columns = [_lengthened(column, n_rows) for column in columns]
    labels = np.full((n_rows, len(task.columns)), task.invalid_row, dtype=np.float32)
    for number, column in enumerate(columns):
        labels[: len(column.labels), number] = column.labels[:, 0]
    known = [column.has_feature for column in columns if column.has_feature is not None]
    doubles = [column.doubles for column in columns if column.doubles is not None]
    return VideoPrediction(
        np.concatenate([column.outputs for column in columns], axis=1),
        labels,
        np.logical_and.reduce([column.present for column in columns]),
        max(column.fps for column in columns),
        replace(doubles[0], labels=np.concatenate([one.labels for one in doubles], axis=1)) if doubles else None,
        np.logical_or.reduce(known) if len(known) == len(columns) else None,
        person=_person_in(columns),
    )


def _person_in(predictions: Sequence[VideoPrediction]) -> str:
    """Who is in a video, by one of its predictions that says so; those of older versions do not."""
    return next((one.person for one in predictions if one.person), "")


def combine(
    task: Task,
    predictions_by_run: Sequence[Mapping[str, VideoPrediction]],
    weights: Sequence[float] | None = None,
    by_output: ByOutput | None = None,
) -> dict[str, VideoPrediction]:
    """The weighted mean of predictions; each video is averaged over the runs that have it.

    Real numbers are averaged directly, classes as probabilities (the result is their logarithm), action units
    as probabilities (the result is the logit); `decide` accepts both. A row is present if it is present in all runs, and
    has a feature if it has one in any of them.

    Args:
        predictions_by_run: for each run, predictions by video.
        weights: weights of the runs, above 0; equal by default. Only their ratios matter.
        by_output: other weights of the runs, 0 or more, for some outputs.

    Raises:
        UsageError: runs have different labels for a video, or none that has it counts for an output.
    """
    factors = np.ones(len(predictions_by_run)) if weights is None else np.array(weights, dtype=np.float64)
    combined = {}
    for video in dict.fromkeys(video for predictions in predictions_by_run for video in predictions):
        numbers = [i for i, predictions in enumerate(predictions_by_run) if video in predictions]
        predictions = [predictions_by_run[i][video] for i in numbers]
        longest = max(predictions, key=lambda prediction: len(prediction.outputs))
        if not all(same_labels(task, prediction, longest) for prediction in predictions):
            raise UsageError(
                f"The runs have different labels for {video}: they come from different stores. Run `abaw eval` for all "
                "of them on one store."
            )
        aligned = [_lengthened(prediction, len(longest.outputs)) for prediction in predictions]
        has_feature = [prediction.has_feature for prediction in aligned if prediction.has_feature is not None]
        combined[video] = VideoPrediction(
            _mean(task, np.stack([one.outputs for one in aligned]), _scale(task, video, factors, numbers, by_output)),
            longest.labels,
            np.logical_and.reduce([prediction.present for prediction in aligned]),
            max(prediction.fps for prediction in predictions),
            longest.doubles,
            np.logical_or.reduce(has_feature) if len(has_feature) == len(aligned) else None,
            person=_person_in(predictions),
        )
    return combined


def _lengthened(prediction: VideoPrediction, n_rows: int) -> VideoPrediction:
    """The prediction padded to `n_rows`; new rows repeat the last output, like rows without a feature."""
    n_missing = n_rows - len(prediction.outputs)
    if not n_missing:
        return prediction
    has_feature = prediction.has_feature
    return replace(
        prediction,
        outputs=np.pad(prediction.outputs, ((0, n_missing), (0, 0)), mode="edge"),
        present=np.pad(prediction.present, (0, n_missing)),
        has_feature=None if has_feature is None else np.pad(has_feature, (0, n_missing)),
    )


def _scale(
    task: Task, video: str, factors: NDArray[np.float64], numbers: Sequence[int], by_output: ByOutput | None
) -> NDArray[np.float64]:
    """(runs, outputs) weights of the runs that have a video, sum 1 over these."""
    chosen = factors[numbers]
    table = np.repeat((chosen / chosen.sum())[:, None], len(task.outputs), axis=1)
    for name, column in (by_output or {}).items():
        weights = np.array(column)[numbers]
        if not weights.any():
            raise UsageError(f"No run that counts for {name} has predicted {video}. Add one, or give one a weight.")
        table[:, task.outputs.index(name)] = weights / weights.sum()
    return table


def _mean(task: Task, outputs: NDArray[np.float32], weights: NDArray[np.float64]) -> NDArray[np.float32]:
    """(rows, outputs): the mean of (runs, rows, outputs) with (runs, outputs) weights, equal ones for all classes."""
    from scipy.special import log_expit, log_softmax, logsumexp  # takes a quarter of a second to import

    means = []
    for part, columns, _ in task.each():
        scale = weights[:, None, columns]
        values = outputs[..., columns].astype(np.float64)
        if part.kind == "regression":
            mean = (scale * values).sum(axis=0)
        elif part.kind == "classes":
            mean = logsumexp(log_softmax(values, axis=2), axis=0, b=scale)
        else:  # from the logarithms of both probabilities, so that extreme logits stay finite
            yes, no = (logsumexp(log_expit(sign * values), axis=0, b=scale) for sign in (1, -1))
            mean = yes - no
        means.append(mean)
    return np.concatenate(means, axis=1).astype(np.float32)
