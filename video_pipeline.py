"""A trained run on new videos: faces, features, predictions, and what is shown of them.

    for row in predict_video(run, file):        rows in the order of time
        row.frame, row.time_s, row.person, row.outputs
    predict_videos(run, options, reporter)      files of rows and pictures for many videos

The same stages as ever do the work, on a temporary dataset of one video: `abaw prepare`, `abaw extract`, and the
prediction of `abaw submit`.
"""

import csv
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from abaw import __version__
from abaw.datasets.affwild2 import open_dataset
from abaw.devices import pick_device
from abaw.errors import DISK_FULL, AbawError, DataError, UsageError
from abaw.evaluate.predict import predict
from abaw.evaluate.tuning import load_tuning
from abaw.evaluate.video.overlay import Overlay
from abaw.evaluate.video.rows import CSV, JSON, Row, begin_of_json, output_values, write_rows
from abaw.evaluate.video.timeline import TIMELINE, Timeline
from abaw.extract.backbone import describe
from abaw.extract.faces.layout import FACES, Record
from abaw.extract.faces.prepare import PrepareOptions, list_videos, prepare_videos
from abaw.extract.film import read_span, redraw
from abaw.extract.request import ExtractOptions
from abaw.extract.sink import Summary
from abaw.extract.stage import Stage
from abaw.extract.weights import file_sha256
from abaw.outputs import clear
from abaw.reporting import Reporter, Silent
from abaw.store import FeatureStore, VideoLabels
from abaw.tasks import get_task
from abaw.train.checkpoint import BEST
from abaw.train.model import best_model
from abaw.train.runs import Run
from abaw.train.table import load_table
from abaw.video_features import load_features

OVERLAY = "overlay.mp4"
SPLIT = "test"


@dataclass(frozen=True)
class PredictOptions:
    """What to predict, and how.

    Attributes:
        videos: video files, and folders of such.
        out: folder that gets one for each video.
        backbones: `[NAME=]BACKBONE[:WEIGHTS]` of features whose backbone or weights are not the default ones.
        faces: keep so many people of each video, the largest and longest seen; 0 keeps all.
        overlay: make the video with the predictions in it.
        raw: leave out the post-processing that the run has.
        untrained: random weights, as the run's features have.
        device: "auto" takes a GPU if there is one.
    """

    videos: tuple[Path, ...] = ()
    out: Path = Path("predictions")
    backbones: tuple[str, ...] = ()
    faces: int = 0
    overlay: bool = True
    raw: bool = False
    untrained: bool = False
    device: str = "auto"


@dataclass
class Found:
    """Predictions of one video: the people, their outputs by frame, and what to say about the file."""

    data: Path
    video: str
    people: tuple[str, ...] = ()
    n_frames: int = 0
    notes: list[str] = field(default_factory=list)
    outputs: dict[str, NDArray[np.float32]] = field(default_factory=dict)


class Predictor:
    """A run with its networks loaded, to be used on one video after another.

    Args:
        run: of a task about faces.
        options: of these `backbones`, `faces`, `raw`, `untrained` and `device` count here.

    Raises:
        UsageError: the run is about whole clips, its features were imported, or a backbone is not known.
        CheckpointError: weights are missing or others than the run's, or the run is damaged.
    """

    def __init__(self, run: Run, options: PredictOptions) -> None:
        self.run, self.task, self.options = run, get_task(run.config.task), options
        if self.task.level == "video":
            raise UsageError(
                f"Run {run.name} is of task {self.task.name}, about whole clips and not faces. Name a run of another task."
            )
        self.tuning = None if options.raw else load_tuning(run)
        self._place = pick_device(options.device)
        self._model = best_model(run, self._place)
        self._features = load_features(run, options.backbones, options.device, options.untrained)

    def predict(self, file: Path, data: Path, reporter: Reporter) -> Found:
        """Predict a video; `data` is an empty folder for what is needed on the way, which `rows` needs, too.

        Raises:
            AbawError: the video cannot be predicted; the sentence says why.
        """
        faces = prepare_videos(PrepareOptions((file,), data, self.options.faces, device=self.options.device), reporter)
        _check(faces, file)
        record = Record.read(data / FACES / f"{file.stem}.json")
        assert record is not None, "prepare_videos ends with it"
        found = Found(data, file.stem, record.people, record.n_frames, list(record.notes))
        if found.people:
            self._extract(found, reporter)
            self._predict(found)
        return found

    def rows(self, found: Found) -> Iterator[Row]:
        """The rows of a video in the order of time: one for each frame and each person who is seen in it."""
        with (found.data / FACES / f"{found.video}.csv").open(newline="", encoding="utf-8") as table:
            for line in csv.DictReader(table):
                frame, person = int(line["frame"]), line["person"]
                outputs = output_values(self.task, found.outputs[person][frame - 1])
                left, top, right, bottom = (float(line[side]) for side in ("left", "top", "right", "bottom"))
                yield Row(frame, float(line["time_s"]), person, outputs, (left, top, right, bottom))

    def _extract(self, found: Found, reporter: Reporter) -> None:
        place = found.data / "store.zarr"
        store = FeatureStore.create(place)
        for feature in self._features:
            store.add_feature(feature.name, **describe(feature.backbone, feature.spec, feature.view))
        options = ExtractOptions(found.data, place, (), device=self.options.device)
        stage, summary = Stage(options, open_dataset(found.data), store, tuple(self._features)), Summary()
        plan = stage.plan(summary)
        reporter.start("extract", plan.n_frames, "frames")
        stage.run(plan.groups, summary, reporter.advance)
        reporter.finish()
        _check(summary, Path(found.video))
        found.notes += [*summary.warnings, *summary.broken_frames]
        if summary.without_sound:
            if all(feature.spec.modality == "audio" for feature in self._features):
                raise DataError(f"it has no sound, and run {self.run.name} takes nothing but sound")
            found.notes.append("it has no sound: predicted without the features of sound")

    def _predict(self, found: Found) -> None:
        config, store = self.run.config, FeatureStore.open(found.data / "store.zarr")
        known = [store.videos(feature) for feature in config.features]
        row = np.array(self.task.invalid_row, dtype=np.float32)
        labels = {}
        for person in found.people:
            n_rows = max([int(videos[person]["n_frames"]) for videos in known if person in videos])
            labels[person] = VideoLabels(SPLIT, np.tile(row, (n_rows, 1)))
        table = load_table(store, self.task, labels, config.features, config.missing)
        predictions = predict(self._model, table, config.length, self._place)
        if self.tuning is not None:
            predictions = self.tuning.postprocess.apply_to(self.task, predictions)
        found.outputs = {person: one.outputs for person, one in predictions.items()}


def _check(summary: Summary, file: Path) -> None:
    """Raise a DataError with what went wrong in a stage that had one video."""
    if summary.failed:
        raise DataError(next(iter(summary.failed.values())))
    if summary.stopped.startswith("interrupted"):
        raise KeyboardInterrupt
    if summary.stopped:
        raise AbawError(f"{file.name} was stopped: {summary.stopped}")


def predict_video(
    run: Run,
    file: Path,
    backbones: Sequence[str] = (),
    faces: int = 0,
    raw: bool = False,
    device: str = "auto",
    reporter: Reporter | None = None,
) -> Iterator[Row]:
    """What a run says of the people in a video, in the order of time; a row for each frame and person seen in it.

    Everything is read before the first row comes, since heads look at both sides of a frame.

    Args:
        backbones, faces, raw, device: see `PredictOptions`.

    Raises:
        AbawError: the run cannot predict videos, or this one cannot be predicted.
    """
    options = PredictOptions(backbones=tuple(backbones), faces=faces, raw=raw, device=device)
    list_videos((file,))  # its error says what a video is
    predictor = Predictor(run, options)
    with tempfile.TemporaryDirectory(prefix="abaw-") as folder:
        yield from predictor.rows(predictor.predict(file, Path(folder), reporter or Silent()))


def predict_videos(run: Run, options: PredictOptions, reporter: Reporter | None = None) -> Summary:
    """Predict videos into folders `out/<video>/`, each whole or not at all; errors of one video end up in the summary.

    What an earlier call with the same run and options finished is skipped.

    Each has `predictions.csv`, `predictions.json`, `timeline.png` and, unless left out, `overlay.mp4`.

    Raises:
        AbawError: nothing could be begun: no videos, weights that do not fit, a folder that cannot be written.
    """
    reporter = reporter or Silent()
    files = list_videos(options.videos)
    predictor = Predictor(run, options)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        if not os.access(options.out, os.W_OK):
            raise PermissionError(13, os.strerror(13))
    except OSError as error:
        raise UsageError(f"{options.out} cannot be written to ({error.strerror}). Name another with --out.") from error
    summary = Summary()
    for file in files:
        try:
            found = _predict_into(predictor, file, options, reporter)
        except OSError as error:
            if error.errno in DISK_FULL:
                raise
            summary.failed[file.stem] = f"could not be read or written: {error}"
        except Exception as error:  # one video's trouble must not cost the others
            summary.failed[file.stem] = str(error) or type(error).__name__
        else:
            if found is None:
                summary.skipped.append(file.stem)
                continue
            summary.done.append(file.stem)
            summary.n_frames += found.n_frames
            summary.warnings += [f"{file.stem}: {note}" for note in found.notes]
    return summary


def _predict_into(predictor: Predictor, file: Path, options: PredictOptions, reporter: Reporter) -> Found | None:
    folder, partial = options.out / file.stem, options.out / f"{file.stem}.partial"
    if _is_done(predictor, file, folder):
        return None
    if folder.exists():
        raise UsageError(f"{folder} exists. Delete it, or name another folder with --out.")
    clear(partial).mkdir()
    try:
        found = predictor.predict(file, partial / "data", reporter)
        _write(predictor, found, file, partial)
        if options.overlay:
            _draw(predictor, found, file, partial / OVERLAY, reporter)
        shutil.rmtree(partial / "data")
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return found


def _write(predictor: Predictor, found: Found, file: Path, folder: Path) -> None:
    timeline = Timeline(predictor.task)
    head = {**_asked(predictor, file), "n_frames": found.n_frames, "people": found.people, "notes": found.notes}
    for _ in timeline.watched(write_rows(folder, predictor.task, head, predictor.rows(found))):
        pass
    title = f"{found.video}: predicted by {predictor.run.name}"
    timeline.save(folder / TIMELINE, title, *read_span(file), found.people)


def _asked(predictor: Predictor, file: Path) -> dict[str, Any]:
    """What decides whether a video has to be predicted again; `predictions.json` begins with it."""
    run, tuning = predictor.run, predictor.tuning
    return {
        "abaw": __version__,
        "video": file.name,
        "size_bytes": file.stat().st_size,
        "run": run.name,
        "run_created": run.created,
        "task": predictor.task.name,
        "features": {name: run.features[name]["fingerprint"] for name in run.config.features},
        "weights_sha256": file_sha256(run.folder / BEST),
        "postprocess": {"origin": tuning.origin, **tuning.postprocess.model_dump(mode="json")} if tuning else None,
        "faces": predictor.options.faces,
    }


def _is_done(predictor: Predictor, file: Path, folder: Path) -> bool:
    """True if a folder has all that is wanted of a video, by the same run with the same options."""
    wanted = [CSV, TIMELINE, *([OVERLAY] if predictor.options.overlay else [])]
    if not all((folder / name).is_file() for name in wanted):
        return False
    begin = begin_of_json(_asked(predictor, file))
    try:
        with (folder / JSON).open(encoding="utf-8") as stream:
            return stream.read(len(begin)) == begin
    except (OSError, ValueError):
        return False


def _draw(predictor: Predictor, found: Found, file: Path, out: Path, reporter: Reporter) -> None:
    """A second pass over the video; the rows come along with the frames."""
    overlay = Overlay(predictor.task, found.people)
    frames = groupby(predictor.rows(found), key=lambda row: row.frame)
    waiting: tuple[int, dict[str, Row]] | None = None

    def rows_of(number: int) -> dict[str, Row]:
        nonlocal waiting
        while waiting is None or waiting[0] < number + 1:
            following = next(frames, None)
            waiting = (following[0], {row.person: row for row in following[1]}) if following else (2**62, {})
        return waiting[1] if waiting[0] == number + 1 else {}

    reporter.start("overlay", found.n_frames, "frames")
    for _ in redraw(file, out, lambda number, image: overlay.draw(image, rows_of(number))):
        reporter.advance(1, found.video)
    reporter.finish()
