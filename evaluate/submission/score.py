"""Score submission files, of abaw or other programs, against the labels in a store."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from abaw.core.errors import DataError, UsageError
from abaw.core.names import composed
from abaw.core.task_files import AP
from abaw.core.tasks import Task
from abaw.datasets.labels import check_header
from abaw.datasets.media_search import name_of_video
from abaw.evaluate.evaluation import Evaluation, score_both
from abaw.evaluate.predictions import VideoPrediction
from abaw.evaluate.scores.further_scores import average_precision
from abaw.evaluate.scores.metrics import Score
from abaw.evaluate.submission.formats import Form, FrameRows, check_has_form, header_of, locate_frames
from abaw.evaluate.submission.parsing import SubmittedRows, read_rows
from abaw.evaluate.submission.row_cells import ParsedRow, form_of, parse_row
from abaw.evaluate.submission.row_files import read_row_files, video_of_file
from abaw.evaluate.submission.write import locate_stills
from abaw.store import FeatureStore
from abaw.store.feature_store import VideoLabels
from abaw.train.data.table import select_labels


@dataclass(frozen=True)
class SubmittedVideo:
    """The rows of one video in a submission file, in the order of the file.

    Attributes:
        video: its name.
        rows: (n,) int64, rows of the video.
        values: (n, columns) float32, in the form of labels.
        lines: (n,) int64, line numbers in the file.
        path: the file.
        probabilities: (n, classes) where the file has them.
    """

    video: str
    rows: NDArray[np.int64]
    values: NDArray[np.float32]
    lines: NDArray[np.int64]
    path: Path
    probabilities: NDArray[np.float64] | None = None


def score_predictions(
    store: FeatureStore, task: Task, split: str, path: Path, feature: str = "", data: Path | None = None
) -> Evaluation:
    """Score a submission file, or a folder with a file for each video, on a split, as a run is scored.

    Every row with a label must be in the file; the others may be. For a frame that is labelled twice the file may have
    two rows, which are scored in their order, or one for both labels.

    Args:
        feature: decides which frames have a crop; by default the first visual feature of the store.
        data: folder of the images; needed for images without a time axis.

    Raises:
        UsageError: the store lacks the labels or the feature, or the task has no submission files.
        DataError: the file is not in the task's format, or lacks labelled rows; names the line.
    """
    is_of_cells = task.submission.rows is not None
    if not is_of_cells:
        check_has_form(task, "videos" if path.is_dir() else "images")
    labels = select_labels(store, task, split)
    feature = feature or _visual_feature(store)
    store.feature_attrs(feature)  # its error lists the features
    submitted = _read(path, task, store, tuple(labels), feature, data)
    known = store.videos(feature)
    predictions, probabilities = dict[str, VideoPrediction](), dict[str, NDArray[np.float64] | None]()
    unanswered, n_labels = list[tuple[str, int]](), 0
    for video, video_labels in labels.items():
        present = np.zeros(len(video_labels.rows), dtype=np.bool_)
        if video in known:
            stored = _present(task, store, feature, video)[: len(present)]
            present[: len(stored)] = stored
        rows, actual = _by_label(video_labels)
        counted = np.any(task.valid(actual), axis=1)
        lines = _match(rows, counted, submitted.get(video))
        unanswered += [(video, int(row)) for row in rows[counted & (lines < 0)]]
        n_labels += int(counted.sum())
        fps = float(known[video]["fps"]) if video in known else 0.0
        answers, probabilities[video] = _answers(task, lines, submitted.get(video))
        predictions[video] = VideoPrediction(
            outputs_of(task, answers), actual, present[rows], fps, person=video_labels.person
        )
    if unanswered:
        video, row = unanswered[0]
        where = video if task.level == "video" else f"frame {row + 1} of {video}"
        raise DataError(
            f"{path} has no prediction for {len(unanswered)} of the {n_labels} {task.name} labels of {split}, the first "
            f"being {where}. The official score needs all of them: add the missing ones."
        )
    return Evaluation(task, *_scores(task, predictions, probabilities), predictions, ())


def _present(task: Task, store: FeatureStore, feature: str, video: str) -> NDArray[np.bool_]:
    """(rows,) bool, the row has the feature; of a whole video, any frame has."""
    present = store.read(feature, video).present
    return np.array([present.any()]) if task.level == "video" else present


def _read(
    path: Path, task: Task, store: FeatureStore, videos: tuple[str, ...], feature: str, data: Path | None
) -> Mapping[str, SubmittedVideo]:
    """The rows of each video in a submission of any form."""
    if task.submission.rows is not None:
        return _read_cells(path, task)
    return _read_folder(path, task) if path.is_dir() else _read_file(path, task, store, videos, feature, data)


def _answers(
    task: Task, lines: NDArray[np.int64], video: SubmittedVideo | None
) -> tuple[NDArray[np.float32], NDArray[np.float64] | None]:
    """(labels, columns) answers, 0 for a label without one, and (labels, classes) probabilities where the video has them.

    Args:
        lines: from `_match`.
    """
    answers = np.zeros((len(lines), len(task.columns)), dtype=np.float32)
    if video is None:
        return answers, None
    answers[lines >= 0] = video.values[lines[lines >= 0]]
    if video.probabilities is None:
        return answers, None
    probabilities = np.full((len(lines), len(task.outputs)), 1 / len(task.outputs))
    probabilities[lines >= 0] = video.probabilities[lines[lines >= 0]]
    return answers, probabilities


def _scores(
    task: Task, predictions: Mapping[str, VideoPrediction], probabilities: Mapping[str, NDArray[np.float64] | None]
) -> tuple[Score, Score]:
    """The two scores of `score_both`; the average precision is that of the probabilities, and left out without them.

    Args:
        probabilities: by video, (labels, classes) or None; those of a video without labels do not matter.
    """
    official, crop_only = score_both(task, predictions)
    if AP not in task.measure.also:
        return official, crop_only
    labelled = [name for name, video in predictions.items() if task.valid(video.labels).any()]
    known = [of_video for name in labelled if (of_video := probabilities[name]) is not None]
    if not labelled or len(known) < len(labelled):
        return _with_precision(official, None), _with_precision(crop_only, None)
    of_second = np.concatenate(known)[:, 1]
    labels = np.concatenate([predictions[name].labels for name in labelled])
    present = np.concatenate([predictions[name].present for name in labelled])
    valid, positive = task.valid(labels)[:, 0], labels[:, 0] == 1
    precisions = [average_precision(of_second[rows], positive[rows]) for rows in (valid, valid & present)]
    return _with_precision(official, precisions[0]), _with_precision(crop_only, precisions[1])


def _with_precision(score: Score, precision: float | None) -> Score:
    """A score with another average precision, or without one: answers alone have no order."""
    also = {name: precision if name == AP else value for name, value in score.also.items()}
    return replace(score, also={name: value for name, value in also.items() if value is not None})


def outputs_of(task: Task, answers: NDArray[np.float32]) -> NDArray[np.float32]:
    """Outputs that `decide` turns back into the answers: 1 for the class and 0 for others, -1 and 1 for binary ones.

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


def _by_label(labels: VideoLabels) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """(labels,) rows of a video, and (labels, columns) their labels: first every row, then second labels of some rows."""
    rows, values = np.arange(len(labels.rows)), labels.rows.astype(np.float32)
    if labels.doubles is None:
        return rows, values
    doubles = labels.doubles
    return np.concatenate([rows, doubles.rows]), np.concatenate([values, doubles.labels.astype(np.float32)])


def _match(rows: NDArray[np.int64], counted: NDArray[np.bool_], video: SubmittedVideo | None) -> NDArray[np.int64]:
    """(labels,) the number of the answer for each label in the file, -1 without one; others are dropped.

    Args:
        rows: (labels,) rows of the video; second labels of a row come later, in their order.
        counted: (labels,) bool, the label is annotated.

    Raises:
        DataError: a row has different answers that do not pair with its labels; the message names the lines.
    """
    if video is None:
        return np.full(len(rows), -1, dtype=np.int64)
    order = np.argsort(video.rows, kind="stable")
    first, end = (np.searchsorted(video.rows[order], rows, side=side) for side in ("left", "right"))
    is_answered = end > first
    n_answers, n_labels = end - first, np.bincount(rows)[rows]
    is_paired = (n_answers == n_labels) & is_answered
    position = first + np.where(is_paired, count_before(rows), 0)
    for label in np.flatnonzero(counted & is_answered & ~is_paired & (n_answers > 1)).tolist():
        of_row = order[first[label] : end[label]]
        if (video.values[of_row] != video.values[of_row[0]]).any():
            lines = " and ".join(map(str, video.lines[of_row]))
            raise DataError(
                f"{video.path} lines {lines} answer frame {rows[label] + 1} of {video.video} differently, which has "
                f"{_labels(int(n_labels[label]))}. Keep one of them."
            )
    numbers = np.full(len(rows), -1, dtype=np.int64)
    numbers[is_answered] = order[position[is_answered]]
    return numbers


def _labels(n: int) -> str:
    return "one label" if n == 1 else f"{n} labels"


def count_before(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) number of equal values before each value."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    counts = np.empty(len(values), dtype=np.int64)
    counts[order] = np.arange(len(values)) - np.searchsorted(ordered, ordered)
    return counts


def _visual_feature(store: FeatureStore) -> str:
    features = store.features()
    visual = [name for name in features if store.feature_attrs(name)["spec"].get("modality", "vision") == "vision"]
    if not features:
        raise UsageError(f"{store.path} has no feature that shows which frames have a crop. Run `abaw extract`.")
    return (visual or features)[0]


def _read_file(
    path: Path, task: Task, store: FeatureStore, videos: tuple[str, ...], feature: str, data: Path | None
) -> Mapping[str, SubmittedVideo]:
    rows = _read_rows(path, task, "images")
    images = [image.strip() for image in rows.images]
    values = rows.values(task)
    if task.level == "frame":
        frame_rows = locate_frames(path, images)
    else:
        stills = locate_stills(data, store, (feature,), videos)
        unlabelled = ("", 0)  # an image without a label
        frame_rows = FrameRows.of(stills.get(composed(image), unlabelled) for image in images)
    order = np.argsort(frame_rows.index, kind="stable")
    ends = np.searchsorted(frame_rows.index[order], np.arange(1, len(frame_rows.videos)))
    parts = zip(frame_rows.videos, np.split(order, ends), strict=True)
    return {video: SubmittedVideo(video, frame_rows.rows[part], values[part], part + 2, path) for video, part in parts}


def _read_folder(folder: Path, task: Task) -> Mapping[str, SubmittedVideo]:
    by_video = {}
    for path in sorted(folder.glob("[!.]*.txt")):
        rows = _read_rows(path, task, "videos")
        numbers, video = np.arange(len(rows.lines)), composed(path.stem)
        by_video[video] = SubmittedVideo(video, numbers, rows.values(task), numbers + 2, path)
    return by_video


def _read_cells(path: Path, task: Task) -> Mapping[str, SubmittedVideo]:
    """The rows of a file of clips, or of a folder or archive with a file for each video."""
    form = form_of(task)
    rows_of: dict[str, list[tuple[int, ParsedRow]]] = {}
    for name, lines in read_row_files(path, task).items():
        place = path / name if name else path
        if form.header:
            check_header(place, lines[0] if lines else "", form.header)
        n_titles = int(bool(form.header))
        for number, line in enumerate(lines[n_titles:], start=1 + n_titles):
            row = parse_row(task, line)
            if isinstance(row, str):
                raise DataError(f"{place} line {number}: {row}: {line[:60]!r}. Correct the line.")
            video = video_of_file(name, form) if name else composed(name_of_video(row.name))
            rows_of.setdefault(video, []).append((number, row))
    return {video: _submitted(path, video, rows) for video, rows in rows_of.items()}


def _submitted(path: Path, video: str, rows: Sequence[tuple[int, ParsedRow]]) -> SubmittedVideo:
    known = [row.probabilities for _, row in rows if row.probabilities is not None]
    return SubmittedVideo(
        video,
        np.array([max(row.frame, 1) - 1 for _, row in rows], dtype=np.int64),
        np.stack([row.label for _, row in rows]),
        np.array([number for number, _ in rows], dtype=np.int64),
        path,
        np.stack(known) if len(known) == len(rows) else None,
    )


def _read_rows(path: Path, task: Task, form: Form) -> SubmittedRows:
    """The rows of a file, which must not be empty; case and spaces in the header do not matter."""
    rows = read_rows(path, form)
    check_header(path, rows.header, header_of(task, form))
    if not rows.lines:
        raise DataError(f"{path} has a header but no rows. Write the file again.")
    return rows
