"""Predictions of a trained run for new videos: rows, tables, and pictures of them.

    for row in predict_video(run, file):        rows in temporal order
        row.frame, row.time_s, row.person, row.outputs
    predict_videos(run, options, reporter)      tables and pictures of many videos

Each video becomes a temporary dataset that goes through the usual stages: `abaw prepare`, `abaw extract`, and the
prediction of `abaw submit`.
"""

import os
import shutil
import tempfile
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from abaw import __version__
from abaw.core.errors import UsageError, is_disk_full
from abaw.core.files import writing
from abaw.core.names import composed
from abaw.core.progress import Reporter, Silent, Summary
from abaw.extract.faces.prepare import list_videos
from abaw.media.probe import probe_span
from abaw.media.redraw import redraw
from abaw.predict.output_rows import CSV, JSON, OutputRow, begin_of_json, row_writer
from abaw.predict.overlay import Overlay
from abaw.predict.timeline import TIMELINE, Timeline
from abaw.predict.video_predictor import PredictedVideo, PredictOptions, VideoPredictor
from abaw.train.runs import Run

OVERLAY = "overlay.mp4"


def predict_video(
    run: Run,
    file: Path,
    backbones: Sequence[str] = (),
    faces: int = 0,
    raw: bool = False,
    device: str = "auto",
    reporter: Reporter | None = None,
) -> list[OutputRow]:
    """Predict the people in a video.

    Args:
        backbones, faces, raw, device: see `PredictOptions`.

    Returns:
        A row for each frame and each person seen in it, in temporal order.

    Raises:
        AbawError: the run cannot predict videos, or this video cannot be predicted.
    """
    options = PredictOptions(backbones=tuple(backbones), faces=faces, raw=raw, device=device)
    list_videos((file,))  # its error says what a video is
    predictor = VideoPredictor(run, options)
    if predictor.note and reporter is not None:
        reporter.warn(predictor.note)
    with tempfile.TemporaryDirectory(prefix="abaw-") as folder:
        return list(predictor.rows(predictor.predict(file, Path(folder), reporter or Silent())))


def predict_videos(run: Run, options: PredictOptions, reporter: Reporter | None = None) -> Summary:
    """Predict videos into folders `out/<video>/`, each complete or absent; errors of single videos go into the summary.

    Videos that an earlier call with the same run and options finished are skipped.

    Each folder has `predictions.csv`, `predictions.json`, `timeline.png` and, unless left out, `overlay.mp4`.

    Raises:
        AbawError: nothing could be started: no videos, weights that do not fit, a folder that cannot be written to.
    """
    reporter = reporter or Silent()
    files = list_videos(options.videos)
    predictor = VideoPredictor(run, options)
    if predictor.note:
        reporter.warn(predictor.note)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        if not os.access(options.out, os.W_OK):
            raise PermissionError(13, os.strerror(13))
    except OSError as error:
        raise UsageError(
            f"{options.out} cannot be written to ({error.strerror}). Choose another folder with --out."
        ) from error
    summary = Summary()
    for file in files:
        video = composed(file.stem)
        try:
            predicted = _predict_into(predictor, file, options, reporter)
        except OSError as error:
            if is_disk_full(error):
                raise
            summary.failed[video] = f"could not be read or written: {error}"
        except Exception as error:  # an error in one video must not stop the others
            summary.failed[video] = str(error) or type(error).__name__
        else:
            if predicted is None:
                summary.skipped.append(video)
                continue
            summary.done.append(video)
            summary.n_frames += predicted.n_frames
            summary.warnings += [f"{video}: {note}" for note in predicted.notes]
    return summary


def _predict_into(
    predictor: VideoPredictor, file: Path, options: PredictOptions, reporter: Reporter
) -> PredictedVideo | None:
    """Make the folder of a video; None if an earlier call made it."""
    name = composed(file.stem)
    folder = options.out / name
    if _is_done(predictor, file, folder):
        return None
    if folder.exists():
        raise UsageError(f"{folder} exists. Delete it, or choose another folder with --out.")
    with writing(folder) as partial:
        partial.mkdir()
        predicted = predictor.predict(file, partial / "data", reporter)
        _write(predictor, predicted, file, partial)
        if options.overlay:
            _draw(predictor, predicted, file, partial / OVERLAY, reporter)
        shutil.rmtree(partial / "data")
    return predicted


def _write(predictor: VideoPredictor, predicted: PredictedVideo, file: Path, folder: Path) -> None:
    """Write the tables and the timeline."""
    timeline, notes = Timeline(predictor.task), [*filter(None, [predictor.note]), *predicted.notes]
    head = {**_sources(predictor, file), "n_frames": predicted.n_frames, "people": predicted.people, "notes": notes}
    with row_writer(folder, predictor.task, head) as write:
        for row in predictor.rows(predicted):
            write(row)
            timeline.add(row)
    title = f"{predicted.video}: predicted by {predictor.run.name}"
    span = probe_span(file)
    timeline.save(folder / TIMELINE, title, span.start_s, span.start_s + span.pictured_s, predicted.people)


def _sources(predictor: VideoPredictor, file: Path) -> dict[str, Any]:
    """What the predictions follow from: a video is predicted again if any of it has changed. Begins `predictions.json`."""
    run, tuning = predictor.run, predictor.trained.tuning
    return {
        "abaw": __version__,
        "video": file.name,
        "size_bytes": file.stat().st_size,
        "run": run.name,
        "run_created": run.created,
        "task": predictor.task.name,
        "features": {name: run.features[name]["fingerprint"] for name in run.config.features},
        "weights_sha256": predictor.trained.checkpoint,
        "postprocess": {"origin": tuning.origin, **tuning.postprocess.model_dump(mode="json")} if tuning else None,
        "faces": predictor.options.faces,
    }


def _is_done(predictor: VideoPredictor, file: Path, folder: Path) -> bool:
    """True if a folder is complete, and was made by the same run with the same options."""
    names = [CSV, TIMELINE, *([OVERLAY] if predictor.options.overlay else [])]
    if not all((folder / name).is_file() for name in names):
        return False
    begin = begin_of_json(_sources(predictor, file))
    try:
        with (folder / JSON).open(encoding="utf-8") as stream:
            return stream.read(len(begin)) == begin
    except (OSError, ValueError):
        return False


def _draw(predictor: VideoPredictor, predicted: PredictedVideo, file: Path, out: Path, reporter: Reporter) -> None:
    """Draw the overlay in a second pass over the video; the rows are read in step with the frames."""
    overlay = Overlay(predictor.task, predicted.people)
    frames = groupby(predictor.rows(predicted), key=lambda row: row.frame)
    waiting: tuple[int, dict[str, OutputRow]] | None = None

    def rows_of(number: int) -> dict[str, OutputRow]:
        nonlocal waiting
        while waiting is None or waiting[0] < number + 1:
            following = next(frames, None)
            waiting = (following[0], {row.person: row for row in following[1]}) if following else (2**62, {})
        return waiting[1] if waiting[0] == number + 1 else {}

    reporter.start("overlay", predicted.n_frames, "frames")
    for _ in redraw(file, out, lambda number, image: overlay.draw(image, rows_of(number))):
        reporter.advance(1, predicted.video)
    reporter.finish()
