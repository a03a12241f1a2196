"""A trained run on new videos: faces, features, predictions, and what is shown of them.

    for row in predict_video(run, file):        rows in the order of time
        row.frame, row.time_s, row.person, row.outputs
    predict_videos(run, options, reporter)      files of rows and pictures for many videos

The same stages as ever do the work, on a temporary dataset of one video: `abaw prepare`, `abaw extract`, and the
prediction of `abaw submit`.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from abaw import __version__
from abaw.backbones.weights import file_sha256
from abaw.core.errors import DISK_FULL, UsageError
from abaw.core.files import clear, partial_name
from abaw.core.names import composed
from abaw.core.progress import Reporter, Silent, Summary
from abaw.extract.faces.prepare import list_videos
from abaw.media.probe import probe_span
from abaw.media.redraw import redraw
from abaw.predict.output_rows import CSV, JSON, OutputRow, begin_of_json, write_rows
from abaw.predict.overlay import Overlay
from abaw.predict.timeline import TIMELINE, Timeline
from abaw.predict.video_predictor import PredictedPerson, PredictOptions, Predictor
from abaw.train.run_files import BEST
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
) -> Iterator[OutputRow]:
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
    if predictor.note and reporter is not None:
        reporter.warn(predictor.note)
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
    if predictor.note:
        reporter.warn(predictor.note)
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
            summary.failed[composed(file.stem)] = f"could not be read or written: {error}"
        except Exception as error:  # one video's trouble must not cost the others
            summary.failed[composed(file.stem)] = str(error) or type(error).__name__
        else:
            if found is None:
                summary.skipped.append(composed(file.stem))
                continue
            summary.done.append(composed(file.stem))
            summary.n_frames += found.n_frames
            summary.warnings += [f"{composed(file.stem)}: {note}" for note in found.notes]
    return summary


def _predict_into(
    predictor: Predictor, file: Path, options: PredictOptions, reporter: Reporter
) -> PredictedPerson | None:
    name = composed(file.stem)
    folder, partial = options.out / name, options.out / partial_name(name)
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


def _write(predictor: Predictor, found: PredictedPerson, file: Path, folder: Path) -> None:
    timeline, notes = Timeline(predictor.task), [*filter(None, [predictor.note]), *found.notes]
    head = {**_asked(predictor, file), "n_frames": found.n_frames, "people": found.people, "notes": notes}
    for _ in timeline.watched(write_rows(folder, predictor.task, head, predictor.rows(found))):
        pass
    title = f"{found.video}: predicted by {predictor.run.name}"
    span = probe_span(file)
    timeline.save(folder / TIMELINE, title, span.start_s, span.start_s + span.found_s, found.people)


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


def _draw(predictor: Predictor, found: PredictedPerson, file: Path, out: Path, reporter: Reporter) -> None:
    """A second pass over the video; the rows come along with the frames."""
    overlay = Overlay(predictor.task, found.people)
    frames = groupby(predictor.rows(found), key=lambda row: row.frame)
    waiting: tuple[int, dict[str, OutputRow]] | None = None

    def rows_of(number: int) -> dict[str, OutputRow]:
        nonlocal waiting
        while waiting is None or waiting[0] < number + 1:
            following = next(frames, None)
            waiting = (following[0], {row.person: row for row in following[1]}) if following else (2**62, {})
        return waiting[1] if waiting[0] == number + 1 else {}

    reporter.start("overlay", found.n_frames, "frames")
    for _ in redraw(file, out, lambda number, image: overlay.draw(image, rows_of(number))):
        reporter.advance(1, found.video)
    reporter.finish()
