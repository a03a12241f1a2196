"""Submission files: exactly the rows of an official sample, in its order, each with a prediction."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from abaw.core.claim_files import claimed, drop_dead_claim
from abaw.core.errors import AbawError, DataError, StoreError, UsageError, is_disk_full, some_of
from abaw.core.files import writing
from abaw.core.names import composed
from abaw.core.tasks import Task
from abaw.datasets.layouts import open_dataset
from abaw.datasets.lsd import TEST_VIDEO
from abaw.evaluate.compound import compound_outputs, is_made_from
from abaw.evaluate.predictions import VideoPrediction
from abaw.evaluate.scores.metrics import decide
from abaw.evaluate.submission.check import check_submission
from abaw.evaluate.submission.coverage import Known, VideoCoverage, count_rows, frames_in_store, pick_rows
from abaw.evaluate.submission.formats import (
    FrameRows,
    Sample,
    VideoList,
    check_has_form,
    format_values,
    header_of,
    locate_frames,
)
from abaw.evaluate.submission.row_files import NameSample, write_row_files
from abaw.evaluate.submission.sample_files import AnySample
from abaw.evaluate.trained import Predictor, Selection
from abaw.store import FeatureStore

SHOWN_NAMES = 5
ROWS_AT_ONCE = 100_000  # rows held as text at a time


@dataclass(frozen=True)
class Submission:
    """A submission that was written.

    Attributes:
        path: the file, or the folder with a file for each video.
        n_rows, n_videos: rows and videos in the file or folder.
        without_feature: videos without a feature in any row; they got the mean output of all others.
        videos: coverage of each video; images without a time axis count as one video.
        modalities: modalities of the features, `vision` and `audio`.
        processed: origin of the post-processing by run, such as `fitted on val: optimistic`.
    """

    path: Path
    n_rows: int
    n_videos: int
    without_feature: tuple[str, ...]
    videos: tuple[VideoCoverage, ...]
    modalities: tuple[str, ...]
    processed: Mapping[str, str]


def default_out(sample: AnySample) -> Path:
    """The default output path: a file, or a folder for a list of videos."""
    if isinstance(sample, NameSample):
        form = sample.form
        suffix = ".zip" if form.is_zipped else "" if form.form == "videos" else ".csv" if form.header else ".txt"
        return Path(f"predictions{suffix}")
    return Path("predictions" if isinstance(sample, VideoList) else "predictions.txt")


def check_fits(task: Task, sample: AnySample, out: Path) -> None:
    """Raise a UsageError if a run of a task cannot predict a sample, or if the output exists."""
    if not isinstance(sample, NameSample) and not (isinstance(sample, Sample) and is_made_from(sample.task, task)):
        check_has_form(task, "videos" if isinstance(sample, VideoList) else "images")
    if not isinstance(sample, VideoList) and sample.task != task and not is_made_from(sample.task, task):
        raise UsageError(
            f"{sample.path} is a sample of task {sample.task.name}, but the run was trained for {task.name}. Use a run "
            f"of {sample.task.name}, or the sample of {task.name}."
        )
    if out.exists() or out.is_symlink():
        drop_dead_claim(out)
        numbered = (out.with_stem(f"{out.stem}-{number}") for number in count(2))
        free = next(path for path in numbered if not path.exists() and not path.is_symlink())
        raise UsageError(f"{out} exists. Delete it, or choose another path, such as --out {shlex.quote(str(free))}.")


def write_submission(
    predictor: Predictor,
    store: FeatureStore,
    sample: AnySample,
    out: Path | None = None,
    data: Path | None = None,
    allow_missing: bool = False,
) -> Submission:
    """Predict every row of an official sample, write the submission, and check it before it gets its name.

    Args:
        sample: from `abaw.evaluate.submission.sample_files.read_sample`.
        out: a file for a sample, a folder for a list of videos; see `default_out`. It must not exist.
        data: folder of the images; needed for samples of images without a time axis.
        allow_missing: videos that are not in the store get the mean output of all others.

    Raises:
        UsageError: the predictor is for another task than the sample, or the output exists.
        StoreError: videos are missing in the store; the message names them.
    """
    task, features, out = predictor.task, predictor.features_in(store), out or default_out(sample)
    check_fits(task, sample, out)
    known = [store.videos(feature) for feature in features]
    frame_rows = locate(sample, store, features, data) if isinstance(sample, Sample) else None
    n_rows = _rows_of(task, known, sample) if frame_rows is None else frame_rows.n_rows
    _check_in_store(store, features, known, sample, tuple(n_rows), allow_missing, task.level == "video")
    with _claimed_output(out):
        check_fits(task, sample, out)
        predictions = predictor.predict(store, Selection(rows=n_rows))
        outputs = _outputs_for(sample, task, {video: predictions[video].outputs for video in n_rows})
        with _unwritable_as_error(out), writing(out) as partial:
            _write_answers(partial, task, sample, frame_rows, outputs)
            check = check_submission(partial, sample, None if isinstance(sample, Sample) else task)
            if check.first:
                reason = f"The predictions do not make a submission file: {check.first}"
                raise AbawError(f"{reason} Nothing was written to {out}.")
    has_feature = {video: _has_feature(predictions[video]) for video in n_rows}
    modalities = {store.feature_attrs(name)["spec"].get("modality", "vision"): None for name in features}
    return Submission(
        out,
        check.n_rows,
        check.n_videos,
        tuple(video for video, rows in has_feature.items() if not rows.any()),
        count_rows(known, {video: rows[: n_rows[video]] for video, rows in has_feature.items()}, frame_rows),
        tuple(modalities),
        predictor.postprocessing(tuple(n_rows)),
    )


def _rows_of(task: Task, known: Known, sample: AnySample) -> dict[str, int]:
    """Rows to predict of each video in a list: its frames in the store, or one for a task of whole videos."""
    rows = frames_in_store(known, () if isinstance(sample, Sample) else map(composed, sample.videos))
    return dict.fromkeys(rows, 1) if task.level == "video" else rows


def _has_feature(prediction: VideoPrediction) -> NDArray[np.bool_]:
    """(rows,) bool, at least as many as were requested."""
    assert prediction.has_feature is not None, "a predictor knows its features"
    return prediction.has_feature


def locate(sample: Sample, store: FeatureStore, features: tuple[str, ...], data: Path | None) -> FrameRows:
    """Video and row in the store of each row of a sample.

    Images without a time axis are found by their file names in the data folder: the store only has their order.
    """
    if sample.task.level == "frame":
        return locate_frames(sample.path, sample.images)
    stills = locate_stills(data, store, features, (TEST_VIDEO,))
    images = [composed(image) for image in sample.images]
    missing = [image for image in images if image not in stills]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(sample.images)} images of {sample.path} are not among the test images of {data}: "
            f"{some_of(missing, SHOWN_NAMES)}. Pass the folder that has them with --data and run `abaw extract` on it."
        )
    return FrameRows.of(stills[image] for image in images)


def locate_stills(
    data: Path | None, store: FeatureStore, features: tuple[str, ...], videos: tuple[str, ...]
) -> dict[str, tuple[str, int]]:
    """Video and row of images without a time axis, by file name (see `composed`).

    Args:
        data: the folder that features were extracted from.
        videos: videos of the dataset to search.

    Raises:
        DataError: the folder has no such images, two of the same name, or other images than the store.
    """
    if data is None:
        raise DataError("Images are found by their names in the data folder. Pass it with --data.")
    dataset = open_dataset(data)
    stills: dict[str, tuple[str, int]] = {}
    for video in (video for video in dataset.videos if video.name in videos):
        frames = dataset.open(video)
        if frames.has_time_axis:
            continue
        for feature in features:
            stored = store.videos(feature).get(video.name)
            if stored is not None and stored.get("source") != frames.digest():
                raise DataError(
                    f"The images in {video.path} are not those that feature {feature!r} of {store.path} was extracted from. "
                    "Run the same `abaw extract` again."
                )
        for row in frames.rows.tolist():
            file = frames.file_of(row)
            name = composed(file.name) if file is not None else ""
            if name in stills:
                raise DataError(
                    f"{data} has two images {name} ({stills[name][0]} and {video.name}), and a submission file cannot distinguish them."
                )
            stills[name] = (video.name, row)
    return stills


def _check_in_store(
    store: FeatureStore,
    features: Sequence[str],
    known: Known,
    sample: AnySample,
    videos: tuple[str, ...],
    allow_missing: bool,
    is_whole: bool,
) -> None:
    """Raise a StoreError if videos are missing. They may have no faces, or may have been forgotten."""
    missing = [video for video in videos if not all(video in attrs for attrs in known)]
    without_any = [video for video in videos if not any(video in attrs for attrs in known)]
    # a list of videos does not say how many frames they have
    can_fill = len(without_any) < len(videos) and not (without_any and not isinstance(sample, Sample) and not is_whole)
    if missing and not (allow_missing and can_fill):
        remedy = ", or give them the mean output of the others with --allow-missing" if can_fill else ""
        raise StoreError(
            f"{len(missing)} of {len(videos)} videos of {sample.path} lack {' or '.join(features)} in {store.path}: "
            f"{some_of(missing, SHOWN_NAMES)}. Run `abaw extract` on the data folder that has their crops{remedy}."
        )


def _outputs_for(sample: AnySample, task: Task, outputs: dict[str, NDArray]) -> dict[str, NDArray]:
    """Outputs of the sample's task by video, which may be made from those of another."""
    if not isinstance(sample, Sample) or sample.task == task:
        return outputs
    return {video: compound_outputs(sample.task, values) for video, values in outputs.items()}


def _write_answers(
    path: Path, task: Task, sample: AnySample, frame_rows: FrameRows | None, outputs: Mapping[str, NDArray]
) -> None:
    task = sample.task if isinstance(sample, Sample) else task
    answers = {video: decide(task, values) for video, values in outputs.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(sample, NameSample):
        write_row_files(path, sample, answers, outputs)
    elif isinstance(sample, VideoList):
        _write_folder(path, task, {video: answers[composed(video)] for video in sample.videos})
    else:
        assert frame_rows is not None
        _write_file(path, sample, frame_rows, answers)


@contextmanager
def _claimed_output(out: Path) -> Iterator[None]:
    with ExitStack() as stack:
        with _unwritable_as_error(out):
            out.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(claimed(out))
        yield


@contextmanager
def _unwritable_as_error(out: Path) -> Iterator[None]:
    """Turns system errors while writing, except a full disk, into a UsageError."""
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise
        raise UsageError(f"{out} cannot be written ({error.strerror}). Choose another path with --out.") from error


def _write_file(path: Path, sample: Sample, frame_rows: FrameRows, answers: Mapping[str, NDArray]) -> None:
    images = iter(sample.images)
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(sample.header + "\n")
        for texts in _texts(sample.task, pick_rows(answers, frame_rows)):
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
