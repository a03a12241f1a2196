"""Scores files of predictions, whoever made them, against the labels in a store."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from abaw.datasets.labels import check_header, read_text
from abaw.errors import DataError, UsageError
from abaw.evaluate.evaluation import Evaluation, score_both
from abaw.evaluate.formats import (
    IMAGE_HEADERS,
    VIDEO_HEADERS,
    Places,
    check_has_file,
    check_once,
    locate_frames,
    parse_values,
    wrong_with,
)
from abaw.evaluate.predict import VideoPrediction
from abaw.evaluate.submission import locate_stills
from abaw.store import FeatureStore
from abaw.tasks import Task
from abaw.train.table import select_labels

Given = Mapping[str, tuple[NDArray[np.int64], NDArray[np.float32]]]  # by video: rows, and their values as labels


def score_predictions(
    store: FeatureStore, task: Task, split: str, path: Path, feature: str = "", data: Path | None = None
) -> Evaluation:
    """Score a submission file, or a folder with a file for each video, on a split, as a run is scored.

    Rows without a label are not needed; every row that has one is.

    Args:
        feature: tells which frames have a crop; by default the first visual feature of the store.
        data: folder of the images, where the file names those of images without a time axis.

    Raises:
        UsageError: there are no such labels or feature, or the task has no format of a file.
        DataError: the file is not in the task's format, or does not answer every label; names the line.
    """
    check_has_file(task, VIDEO_HEADERS if path.is_dir() else IMAGE_HEADERS)
    labels = select_labels(store, task, split)
    feature = feature or _visual_feature(store)
    store.feature_attrs(feature)  # its error says which there are
    given = _read_folder(path, task) if path.is_dir() else _read_file(path, task, store, tuple(labels), feature, data)
    known = store.videos(feature)
    predictions, unanswered = {}, []
    for video, found in labels.items():
        present = np.zeros(len(found.rows), dtype=np.bool_)
        if video in known:
            stored = store.read(feature, video).present[: len(present)]
            present[: len(stored)] = stored
        answers, has = _place(task, len(found.rows), given.get(video))
        wanted = task.valid(found.rows).any(axis=1)
        unanswered += [(video, int(row)) for row in np.flatnonzero(wanted & ~has)]
        fps = float(known[video]["fps"]) if video in known else 0.0
        predictions[video] = VideoPrediction(outputs_of(task, answers), found.rows.astype(np.float32), present, fps)
    if unanswered:
        n_wanted = sum(int(task.valid(found.rows).any(axis=1).sum()) for found in labels.values())
        video, row = unanswered[0]
        raise DataError(
            f"{path} has no prediction for {len(unanswered)} of the {n_wanted} {task.name} labels of {split}, the first "
            f"being frame {row + 1} of {video}. The official score wants every one: add them."
        )
    return Evaluation(*score_both(task, predictions), dict(predictions), ())


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


def _place(
    task: Task, n_rows: int, given: tuple[NDArray[np.int64], NDArray[np.float32]] | None
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Answers at their rows, and which rows have one; those beyond the last label are dropped."""
    answers = np.zeros((n_rows, len(task.columns)), dtype=np.float32)
    has = np.zeros(n_rows, dtype=np.bool_)
    if given is not None:
        rows, values = given
        inside = rows < n_rows
        answers[rows[inside]], has[rows[inside]] = values[inside], True
    return answers, has


def _visual_feature(store: FeatureStore) -> str:
    features = store.features()
    visual = [name for name in features if store.feature_attrs(name)["spec"].get("modality") != "audio"]
    if not features:
        raise UsageError(f"{store.path} has no feature to tell which frames have a crop. Run `abaw extract`.")
    return (visual or features)[0]


def _read_file(
    path: Path, task: Task, store: FeatureStore, videos: tuple[str, ...], feature: str, data: Path | None
) -> Given:
    lines = _read_lines(path, IMAGE_HEADERS[task.name])
    images = [line.partition(",")[0] for line in lines]
    texts = [line.partition(",")[2] for line in lines]
    values = _parse(path, task, lines, texts)
    check_once(path, images)
    if task.level == "frame":
        places = locate_frames(path, images)
    else:
        stills = locate_stills(data, store, (feature,), videos)
        nowhere = ("", 0)  # a video that no labels are of
        places = Places.of(stills.get(image, nowhere) for image in images)
    order = np.argsort(places.index, kind="stable")
    ends = np.searchsorted(places.index[order], np.arange(1, len(places.videos)))
    parts = zip(places.videos, np.split(order, ends), strict=True)
    return {video: (places.rows[part], values[part]) for video, part in parts}


def _read_folder(folder: Path, task: Task) -> Given:
    given = {}
    for path in sorted(folder.glob("[!.]*.txt")):
        lines = _read_lines(path, VIDEO_HEADERS[task.name])
        given[path.stem] = (np.arange(len(lines)), _parse(path, task, lines, lines))
    return given


def _read_lines(path: Path, wanted: str) -> list[str]:
    """The lines after the header."""
    header, _, body = read_text(path).partition("\n")
    check_header(path, header, wanted)
    lines = body.rstrip().split("\n")
    if lines == [""]:
        raise DataError(f"{path} has a header and no rows. Write it again.")
    return lines


def _parse(path: Path, task: Task, lines: Sequence[str], texts: Sequence[str]) -> NDArray[np.float32]:
    """(rows, columns) values.

    Raises:
        DataError: a row is not as it should be; names the line.
    """
    wrong = {text for text in set(texts) if wrong_with(text, task)}
    for number, text in enumerate(texts if wrong else (), start=2):
        if text in wrong:
            raise DataError(
                f"{path} line {number}: {wrong_with(text, task)}: {lines[number - 2][:60]!r}. Correct the line."
            )
    return parse_values(texts, task)
