"""Scores files of predictions, whoever made them, against the labels in a store."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from abaw.core.errors import DataError, UsageError
from abaw.core.names import composed
from abaw.core.tasks import Task
from abaw.datasets.labels import check_header
from abaw.evaluate.evaluation import Evaluation, score_both
from abaw.evaluate.predictions import VideoPrediction
from abaw.evaluate.submission.formats import Form, Places, check_has_form, header_of, locate_frames
from abaw.evaluate.submission.parsing import SubmittedRows, read_rows
from abaw.evaluate.submission.write import locate_stills
from abaw.store import FeatureStore
from abaw.store.feature_store import VideoLabels
from abaw.train.data.table import select_labels


@dataclass(frozen=True)
class Given:
    """What a file says of one video, in its order.

    Attributes:
        video: its name.
        rows: (n,) int64, of the video.
        values: (n, columns) float32, in the form of labels.
        lines: (n,) int64, of the file.
        path: the file.
    """

    video: str
    rows: NDArray[np.int64]
    values: NDArray[np.float32]
    lines: NDArray[np.int64]
    path: Path


def score_predictions(
    store: FeatureStore, task: Task, split: str, path: Path, feature: str = "", data: Path | None = None
) -> Evaluation:
    """Score a submission file, or a folder with a file for each video, on a split, as a run is scored.

    Rows without a label are not needed; every row that has one is. Of a frame that is labelled twice the file may have
    two rows, which are scored in their order, or one for both labels.

    Args:
        feature: tells which frames have a crop; by default the first visual feature of the store.
        data: folder of the images, where the file names those of images without a time axis.

    Raises:
        UsageError: there are no such labels or feature, or the task has no format of a file.
        DataError: the file is not in the task's format, or does not answer every label; names the line.
    """
    check_has_form(task, "videos" if path.is_dir() else "images")
    labels = select_labels(store, task, split)
    feature = feature or _visual_feature(store)
    store.feature_attrs(feature)  # its error says which there are
    given = _read_folder(path, task) if path.is_dir() else _read_file(path, task, store, tuple(labels), feature, data)
    known = store.videos(feature)
    predictions, unanswered, n_wanted = {}, list[tuple[str, int]](), 0
    for video, found in labels.items():
        present = np.zeros(len(found.rows), dtype=np.bool_)
        if video in known:
            stored = store.read(feature, video).present[: len(present)]
            present[: len(stored)] = stored
        rows, wanted = _by_label(found)
        counted = np.any(task.valid(wanted), axis=1)
        answers, has = _place(task, rows, counted, given.get(video))
        unanswered += [(video, int(row)) for row in rows[counted & ~has]]
        n_wanted += int(counted.sum())
        fps = float(known[video]["fps"]) if video in known else 0.0
        predictions[video] = VideoPrediction(outputs_of(task, answers), wanted, present[rows], fps)
    if unanswered:
        video, row = unanswered[0]
        raise DataError(
            f"{path} has no prediction for {len(unanswered)} of the {n_wanted} {task.name} labels of {split}, the first "
            f"being frame {row + 1} of {video}. The official score wants every one: add them."
        )
    return Evaluation(task, *score_both(task, predictions), dict(predictions), ())


def outputs_of(task: Task, answers: NDArray[np.float32]) -> NDArray[np.float32]:
    """Outputs from which `decide` takes these very answers: 1 for the class and 0 for others, -1 and 1 for units.

    Args:
        answers: (rows, columns) in the form of labels.

    Returns:
        (rows, outputs).
    """
    outputs = []
    for part, _, columns in task.each():
        values = answers[:, columns]
        if part.kind == "classes":
            values = values == np.arange(len(part.outputs))
        elif part.kind == "binary":
            values = 2 * values - 1
        outputs.append(values.astype(np.float32))
    return np.concatenate(outputs, axis=1)


def _by_label(found: VideoLabels) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """(labels,) rows of a video, and their labels (labels, columns): of every row, then of those that are labelled twice."""
    rows, labels = np.arange(len(found.rows)), found.rows.astype(np.float32)
    if found.doubles is None:
        return rows, labels
    return np.concatenate([rows, found.doubles.rows]), np.concatenate([labels, found.doubles.labels.astype(np.float32)])


def _place(
    task: Task, rows: NDArray[np.int64], counted: NDArray[np.bool_], given: Given | None
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The answer for each label, and which labels have one; answers of rows beyond the last label are dropped.

    Args:
        rows: (labels,) rows of the video, those that are labelled twice in their order.
        counted: (labels,) bool, the label is annotated.

    Raises:
        DataError: several answers for a row that has another number of labels; names the lines.
    """
    answers, has = np.zeros((len(rows), len(task.columns)), dtype=np.float32), np.zeros(len(rows), dtype=np.bool_)
    if given is None:
        return answers, has
    order = np.argsort(given.rows, kind="stable")
    first, end = (np.searchsorted(given.rows[order], rows, side=side) for side in ("left", "right"))
    has = end > first
    n_given, n_labels = end - first, np.bincount(rows)[rows]
    is_paired = (n_given == n_labels) & has
    place = first + np.where(is_paired, count_before(rows), 0)
    for label in np.flatnonzero(counted & has & ~is_paired & (n_given > 1)).tolist():
        own = order[first[label] : end[label]]
        if (given.values[own] != given.values[own[0]]).any():
            lines = " and ".join(map(str, given.lines[own]))
            raise DataError(
                f"{given.path} lines {lines} answer frame {rows[label] + 1} of {given.video} differently, which has "
                f"{_labels(int(n_labels[label]))}. Keep one of them."
            )
    answers[has] = given.values[order[place[has]]]
    return answers, has


def _labels(n: int) -> str:
    return "one label" if n == 1 else f"{n} labels"


def count_before(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) how many equal values come before each one."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    counts = np.empty(len(values), dtype=np.int64)
    counts[order] = np.arange(len(values)) - np.searchsorted(ordered, ordered)
    return counts


def _visual_feature(store: FeatureStore) -> str:
    features = store.features()
    visual = [name for name in features if store.feature_attrs(name)["spec"].get("modality") != "audio"]
    if not features:
        raise UsageError(f"{store.path} has no feature to tell which frames have a crop. Run `abaw extract`.")
    return (visual or features)[0]


def _read_file(
    path: Path, task: Task, store: FeatureStore, videos: tuple[str, ...], feature: str, data: Path | None
) -> Mapping[str, Given]:
    rows = _read_rows(path, task, "images")
    images = [image.strip() for image in rows.images]
    values = rows.values(task)
    if task.level == "frame":
        places = locate_frames(path, images)
    else:
        stills = locate_stills(data, store, (feature,), videos)
        nowhere = ("", 0)  # a video that no labels are of
        places = Places.of(stills.get(composed(image), nowhere) for image in images)
    order = np.argsort(places.index, kind="stable")
    ends = np.searchsorted(places.index[order], np.arange(1, len(places.videos)))
    parts = zip(places.videos, np.split(order, ends), strict=True)
    return {video: Given(video, places.rows[part], values[part], part + 2, path) for video, part in parts}


def _read_folder(folder: Path, task: Task) -> Mapping[str, Given]:
    by_video = {}
    for path in sorted(folder.glob("[!.]*.txt")):
        rows = _read_rows(path, task, "videos")
        numbers, video = np.arange(len(rows.lines)), composed(path.stem)
        by_video[video] = Given(video, numbers, rows.values(task), numbers + 2, path)
    return by_video


def _read_rows(path: Path, task: Task, form: Form) -> SubmittedRows:
    """The rows of a file, of which there must be some; in the header case and spaces do not matter."""
    rows = read_rows(path, form)
    check_header(path, rows.header, header_of(task, form))
    if not rows.lines:
        raise DataError(f"{path} has a header and no rows. Write it again.")
    return rows
