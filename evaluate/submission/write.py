"""Writes submission files: exactly the rows of an official sample in its order, each of them answered."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from abaw.core.errors import DISK_FULL, AbawError, DataError, StoreError, UsageError, some_of
from abaw.core.files import new_partial
from abaw.core.names import composed
from abaw.core.tasks import Task
from abaw.datasets.dataset import Stills
from abaw.datasets.layouts import open_dataset
from abaw.datasets.lsd import TEST_VIDEO
from abaw.evaluate.ensemble import combine
from abaw.evaluate.postprocessing.tuning import Tuning
from abaw.evaluate.predictions import VideoPrediction
from abaw.evaluate.scores.metrics import decide
from abaw.evaluate.submission.check import check_submission
from abaw.evaluate.submission.coverage import Answered, Known, count_answered, frames_in_store, pick_rows
from abaw.evaluate.submission.formats import (
    Places,
    Sample,
    VideoList,
    check_has_form,
    format_values,
    header_of,
    locate_frames,
)
from abaw.store import FeatureStore
from abaw.store.feature_store import VideoLabels
from abaw.train.config import TrainConfig
from abaw.train.data.table import Table, load_table

SHOWN_NAMES = 5
ROWS_AT_ONCE = 100_000  # rows that are text at a time
TEST_SPLIT = "test"  # of videos without labels

Predict = Callable[[Table], Mapping[str, VideoPrediction]]


@dataclass(frozen=True)
class Submission:
    """What was written.

    Attributes:
        path: the file, or the folder with a file for each video.
        n_rows, n_videos: in it.
        without_feature: videos of which no row has a feature; they got the mean output of all others.
        videos: what was answered of each; images without a time axis are one.
        modalities: of the features, `vision` and `audio`.
        processed: runs that are post-processed, and where that comes from, as `fitted on val: optimistic`.
    """

    path: Path
    n_rows: int
    n_videos: int
    without_feature: tuple[str, ...]
    videos: tuple[Answered, ...]
    modalities: tuple[str, ...]
    processed: Mapping[str, str]


@dataclass(frozen=True)
class Answerer:
    """One run that answers.

    Attributes:
        config: how it was trained.
        predict: gives the outputs for a table of its features, post-processed where there is a tuning.
        name: of the run.
        tuning: where the post-processing comes from.
    """

    config: TrainConfig
    predict: Predict
    name: str = ""
    tuning: Tuning | None = None


def default_out(wanted: Sample | VideoList) -> Path:
    """Where predictions go: a file, or for a list of videos a folder."""
    return Path("predictions" if isinstance(wanted, VideoList) else "predictions.txt")


def check_fits(task: Task, wanted: Sample | VideoList, out: Path) -> None:
    """Raises a UsageError if a run of a task cannot answer a sample, or if the output is there already."""
    check_has_form(task, "videos" if isinstance(wanted, VideoList) else "images")
    if isinstance(wanted, Sample) and wanted.task != task:
        raise UsageError(
            f"{wanted.path} is a sample of task {wanted.task.name}, but the run was trained for {task.name}. Name a run "
            f"of {wanted.task.name}, or the sample of {task.name}."
        )
    if out.exists() or out.is_symlink():
        raise UsageError(f"{out} exists. Delete it, or name another with --out.")


def write_submission(
    answerers: Sequence[Answerer],
    task: Task,
    store: FeatureStore,
    wanted: Sample | VideoList,
    out: Path,
    data: Path | None = None,
    allow_missing: bool = False,
    weights: Sequence[float] | None = None,
) -> Submission:
    """Predict what a sample wants, write it, and check it before it gets its name.

    Args:
        answerers: the run, or the members of an ensemble, whose answers are combined.
        out: a file for a sample, a folder for a list of videos; it must not exist, see `check_fits`.
        data: folder of the images, where the sample names files of images without a time axis.
        allow_missing: videos that are not in the store are answered with the mean output of all others.
        weights: of the answerers; equal by default.

    Raises:
        StoreError: videos are not in the store; names them.
    """
    features = tuple(dict.fromkeys(name for answerer in answerers for name in answerer.config.features))
    known = [store.videos(feature) for feature in features]
    if isinstance(wanted, VideoList):
        places, n_rows = None, frames_in_store(known, map(composed, wanted.videos))
    else:
        places = locate(wanted, store, features, data)
        n_rows = places.n_rows
    _check_in_store(store, features, known, wanted, tuple(n_rows), allow_missing)
    predicted, has_any, without = _predict(answerers, task, store, n_rows)
    found = combine(task, predicted, weights) if len(predicted) > 1 else predicted[0]
    answers = {video: decide(task, found[video].outputs) for video in n_rows}
    partial = _write_partial(out, task, wanted, places, answers)
    check = check_submission(partial, wanted, task)
    if check.first:
        raise AbawError(f"What was predicted makes no submission file: {check.first} Nothing was written to {out}.")
    partial.rename(out)
    modalities = {store.feature_attrs(name)["spec"].get("modality", "vision"): None for name in features}
    processed = {one.name: _origin(one.tuning, tuple(n_rows)) for one in answerers if one.tuning}
    answered = count_answered(known, has_any, places)
    return Submission(out, check.n_rows, check.n_videos, without, answered, tuple(modalities), processed)


def locate(sample: Sample, store: FeatureStore, features: tuple[str, ...], data: Path | None) -> Places:
    """Where the rows of a sample stand in the store.

    Images without a time axis are found by their file names in the data folder, since the store keeps their order alone.
    """
    if sample.task.level == "frame":
        return locate_frames(sample.path, sample.images)
    stills = locate_stills(data, store, features, (TEST_VIDEO,))
    images = [composed(image) for image in sample.images]
    absent = [image for image in images if image not in stills]
    if absent:
        raise DataError(
            f"{len(absent)} of {len(sample.images)} images of {sample.path} are not among the test images of {data}: "
            f"{some_of(absent, SHOWN_NAMES)}. Name the folder that has them with --data and run `abaw extract` on it."
        )
    return Places.of(stills[image] for image in images)


def locate_stills(
    data: Path | None, store: FeatureStore, features: tuple[str, ...], videos: tuple[str, ...]
) -> dict[str, tuple[str, int]]:
    """Video and row of images without a time axis, by file name (see `composed`).

    Args:
        data: the folder that features were extracted from.
        videos: those of the dataset to look into.

    Raises:
        DataError: the folder has no such images, two of one name, or others than the store.
    """
    if data is None:
        raise DataError("Images are found by their names in the data folder. Name it with --data.")
    dataset = open_dataset(data)
    found: dict[str, tuple[str, int]] = {}
    for video in (video for video in dataset.videos if isinstance(video, Stills) and video.name in videos):
        crops = video.crops()
        source = dataset.digest(video, crops)
        for feature in features:
            stored = store.videos(feature).get(video.name)
            if stored is not None and stored.get("source") != source:
                raise DataError(
                    f"The images in {video.folder} are not those that feature {feature!r} of {store.path} was made of. "
                    "Run the same `abaw extract` again."
                )
        for row, name in enumerate(map(composed, crops.names)):
            if name in found:
                raise DataError(
                    f"{data} has two images {name} ({found[name][0]} and {video.name}), which a file cannot tell apart."
                )
            found[name] = (video.name, row)
    return found


def _origin(tuning: Tuning, videos: Sequence[str]) -> str:
    return tuning.origin + (": optimistic" if tuning.note(videos) else "")


def _check_in_store(
    store: FeatureStore,
    features: Sequence[str],
    known: Known,
    wanted: Sample | VideoList,
    videos: tuple[str, ...],
    allow_missing: bool,
) -> None:
    """Videos without a face in any frame are not in the data folder, but neither are those that were forgotten."""
    absent = [video for video in videos if not all(video in found for found in known)]
    nowhere = [video for video in videos if not any(video in found for found in known)]
    # a list of videos does not say how many frames they have
    can_allow = len(nowhere) < len(videos) and not (nowhere and isinstance(wanted, VideoList))
    if absent and not (allow_missing and can_allow):
        remedy = ", or let them get the mean output of the others with --allow-missing" if can_allow else ""
        raise StoreError(
            f"{len(absent)} of {len(videos)} videos of {wanted.path} lack {' or '.join(features)} in {store.path}: "
            f"{some_of(absent, SHOWN_NAMES)}. Run `abaw extract` on the data folder that has their crops{remedy}."
        )


def _predict(
    answerers: Sequence[Answerer], task: Task, store: FeatureStore, n_rows: Mapping[str, int]
) -> tuple[list[Mapping[str, VideoPrediction]], dict[str, NDArray[np.bool_]], tuple[str, ...]]:
    """What each run predicts; by video which of its wanted rows have a feature of any run; videos without a feature."""
    predicted = []
    has_any = {video: np.zeros(n, dtype=np.bool_) for video, n in n_rows.items()}
    without = dict.fromkeys(n_rows)
    for answerer in answerers:
        table = _load(store, answerer.config, task, n_rows)
        predicted.append(answerer.predict(table))
        for i, video in enumerate(table.videos):
            own = table.has_any[table.rows(i)]
            has_any[video] |= own[: n_rows[video]]
            if own.any():  # maybe in rows that are not wanted
                without.pop(video, None)
    return predicted, has_any, tuple(without)


def _load(store: FeatureStore, config: TrainConfig, task: Task, n_rows: Mapping[str, int]) -> Table:
    """A table with the rows that are wanted, or as many as the features have, without labels."""
    row = np.array(task.invalid_row, dtype=np.float32)
    labels = {video: VideoLabels(TEST_SPLIT, np.tile(row, (n, 1))) for video, n in n_rows.items()}
    return load_table(store, task, labels, config.features, config.missing)


def _write_partial(
    out: Path, task: Task, wanted: Sample | VideoList, places: Places | None, answers: Mapping[str, NDArray]
) -> Path:
    """Write the answers beside `out`; where they are."""
    try:
        partial = new_partial(out)
        out.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(wanted, VideoList):
            _write_folder(partial, task, {video: answers[composed(video)] for video in wanted.videos})
        else:
            assert places is not None
            _write_file(partial, wanted, places, answers)
    except OSError as error:
        if error.errno in DISK_FULL:
            raise
        raise UsageError(f"{out} cannot be written ({error.strerror}). Name another with --out.") from error
    return partial


def _write_file(path: Path, sample: Sample, places: Places, answers: Mapping[str, NDArray]) -> None:
    images = iter(sample.images)
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(sample.header + "\n")
        for texts in _texts(sample.task, pick_rows(answers, places)):
            file.writelines(f"{image},{text}\n" for image, text in zip(islice(images, len(texts)), texts, strict=True))


def _write_folder(path: Path, task: Task, answers: Mapping[str, NDArray]) -> None:
    path.mkdir(parents=True)
    for video, rows in answers.items():
        with (path / f"{video}.txt").open("w", encoding="utf-8", newline="\n") as file:
            file.write(header_of(task, "videos") + "\n")
            for texts in _texts(task, rows):
                file.writelines(f"{text}\n" for text in texts)


def _texts(task: Task, answers: NDArray) -> Iterator[list[str]]:
    for start in range(0, len(answers), ROWS_AT_ONCE):
        yield format_values(task, answers[start : start + ROWS_AT_ONCE])
