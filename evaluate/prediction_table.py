"""Predictions as rows, one for each frame: for `abaw eval --csv`, pandas and spreadsheets."""

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from abaw.core.row_table import RowTable
from abaw.core.tasks import Task
from abaw.evaluate.predictions import VideoPrediction
from abaw.evaluate.scores.metrics import decide

ROWS_AT_ONCE = 8192
SUFFIX, LABEL_PREFIX = "_probability", "label_"


def output_columns(task: Task) -> tuple[str, ...]:
    """Names of the columns of a task's predictions, in order.

    Valence and arousal have their values; expressions the name of the most likely one, then the probability of each;
    action units 0 or 1 each, then their probabilities.
    """
    columns: list[str] = []
    for part, _, _ in task.each():
        if part.kind == "regression":
            columns += part.outputs
        else:
            columns += part.columns if part.kind == "classes" else part.outputs
            columns += [f"{name}{SUFFIX}" for name in part.outputs]
    return tuple(columns)


def output_arrays(task: Task, outputs: NDArray[np.float32]) -> dict[str, NDArray]:
    """The columns of `output_columns`, each with a value for each row: float64, int8, or names of classes as objects.

    Args:
        outputs: (rows, outputs) of a head or of post-processing. Probabilities are computed from these: an action unit
            is on above one half, and the class with the largest probability is named.
    """
    from scipy.special import expit, softmax  # takes a quarter of a second to import

    arrays: dict[str, NDArray] = {}
    for part, columns, _ in task.each():
        logits = outputs[:, columns].astype(np.float64)
        answers = decide(part, logits)
        if part.kind == "regression":
            arrays |= {name: answers[:, i] for i, name in enumerate(part.outputs)}
            continue
        if part.kind == "classes":
            arrays[part.columns[0]] = np.array(part.outputs, dtype=object)[answers[:, 0]]
        else:
            arrays |= {name: answers[:, i].astype(np.int8) for i, name in enumerate(part.outputs)}
        probabilities = softmax(logits, axis=1) if part.kind == "classes" else expit(logits)
        arrays |= {f"{name}{SUFFIX}": probabilities[:, i] for i, name in enumerate(part.outputs)}
    return arrays


def prediction_table(task: Task, predictions: Mapping[str, VideoPrediction]) -> RowTable:
    """Predictions of a task next to their labels, a row for each frame (or image, or whole video).

    The columns are `video`; `frame`, its number from 1 (that of an image in its folder; 1 for a whole video); `time_s`,
    missing where frames have no time; `has_crop`; those of `output_columns`; then the labels as `label_<column>`, missing
    where the frame is not annotated. A frame that is labelled twice has two rows.

    Args:
        predictions: by video, such as those of `Results`.
    """
    labels = {f"{LABEL_PREFIX}{name}": name for name in task.columns}
    categories = {"video": tuple(predictions)}
    for part, _, _ in task.each():
        if part.kind == "classes":
            categories |= dict.fromkeys((part.columns[0], f"{LABEL_PREFIX}{part.columns[0]}"), part.outputs)
    return RowTable(
        ("video", "frame", "time_s", "has_crop", *output_columns(task), *labels),
        sum(len(video.outputs) + (len(video.doubles.rows) if video.doubles else 0) for video in predictions.values()),
        lambda: _blocks(task, predictions),
        categories,
    )


def _blocks(task: Task, predictions: Mapping[str, VideoPrediction]) -> Iterator[dict[str, NDArray]]:
    for name, video in predictions.items():
        frames, by_label = np.arange(len(video.outputs)), video.by_label()
        if video.doubles is not None:
            frames = np.concatenate([frames, video.doubles.rows])
        order = np.argsort(frames, kind="stable")  # second labels come after the first of the same frame
        for start in range(0, len(order), ROWS_AT_ONCE):
            chosen = order[start : start + ROWS_AT_ONCE]
            has_time = task.level == "frame" and video.fps > 0
            yield {
                "video": np.full(len(chosen), name, dtype=object),
                "frame": frames[chosen] + 1,
                "time_s": frames[chosen] / video.fps if has_time else np.full(len(chosen), np.nan),
                "has_crop": by_label.present[chosen],
                **output_arrays(task, by_label.outputs[chosen]),
                **_label_arrays(task, by_label.labels[chosen]),
            }


def _label_arrays(task: Task, labels: NDArray[np.float32]) -> dict[str, NDArray]:
    """The labels by column: numbers, NaN where not annotated, or names of classes, None where not annotated."""
    arrays: dict[str, NDArray] = {}
    for part, _, columns in task.each():
        values, valid = labels[:, columns], part.valid(labels[:, columns])
        if part.kind == "classes":
            names = np.array([*part.outputs, None], dtype=object)
            arrays[f"{LABEL_PREFIX}{part.columns[0]}"] = names[np.where(valid[:, 0], values[:, 0], -1).astype(int)]
        else:
            shown = np.where(valid, values, np.float32(np.nan))
            arrays |= {f"{LABEL_PREFIX}{name}": shown[:, i] for i, name in enumerate(part.columns)}
    return arrays
