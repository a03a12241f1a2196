"""Predictions of new videos and images: rows, tables, and pictures of them.

    for row in predict_video(run, file):        rows in temporal order
        row.frame, row.time_s, row.person, row.outputs
    predict_videos(run, options, reporter)      tables and pictures of many files

The predictor is a trained run, or without one `fer`, which comes with the package. Each file becomes a temporary dataset
that goes through the usual stages: `abaw prepare`, and for a run `abaw extract` and the prediction of `abaw submit`.
"""

import csv
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from abaw import __version__
from abaw.core.claim_files import BusyError, claimed
from abaw.core.csv_cells import as_cell
from abaw.core.errors import UsageError, is_disk_full
from abaw.core.files import writing
from abaw.core.progress import Reporter, Silent, Summary
from abaw.core.system_errors import in_words
from abaw.extract.faces.face_identity import identity_key
from abaw.media.file_content import content_of, has_content
from abaw.media.frame_times import NS, read_times
from abaw.media.images import read_image
from abaw.media.probe import probe_span
from abaw.media.redraw import redraw
from abaw.predict.face_predictor import FacePredictor, PredictedFile, predict_file, rows_of
from abaw.predict.fer import TRUST, FerPredictor
from abaw.predict.image_overlay import draw_faces, save_jpeg
from abaw.predict.input_files import PredictOptions, is_image, list_inputs, make_folder, name_of
from abaw.predict.output_rows import CSV, JSON, OutputRow, begin_of_json, row_writer
from abaw.predict.overlay import Overlay
from abaw.predict.run_predictor import RunPredictor
from abaw.predict.timeline import TIMELINE, Timeline
from abaw.train.runs import Run

OVERLAY, IMAGE_OVERLAY = "overlay.mp4", "overlay.jpg"
IMAGES = "images.csv"
CONTENT, MOST_CONTENT = "content", 400  # key in `predictions.json`, and characters in which it ends


@dataclass(frozen=True)
class FileResult:
    """What was predicted for a file.

    Attributes:
        folder: holds the tables and pictures.
        pictures: names of the files to look at.
        people: names, from left to right.
        n_frames, n_with_face: of the video, and those of them with a face; 1 and 1 or 0 for an image.
    """

    folder: Path
    pictures: tuple[str, ...]
    people: tuple[str, ...]
    n_frames: int
    n_with_face: int


@dataclass
class PredictSummary(Summary):
    """What `predict_videos` did.

    Attributes:
        results: by name, for the files that this call predicted.
        table: `images.csv`, if there are several images.
        busy: files that another process was predicting.
        trust: what to know about predictions made without a run; empty with one.
    """

    results: dict[str, FileResult] = field(default_factory=dict)
    busy: list[Path] = field(default_factory=list)
    trust: str = ""
    table: Path | None = None


def open_face_predictor(run: Run | None, options: PredictOptions) -> FacePredictor:
    """Load the networks of a run, or without one those of `fer`.

    Raises:
        AbawError: the run cannot predict faces, or the options do not fit.
    """
    return FerPredictor(options) if run is None else RunPredictor(run, options)


def predict_video(
    run: Run | None,
    file: Path,
    backbones: Sequence[str] = (),
    faces: int = 0,
    raw: bool = False,
    device: str = "auto",
    reporter: Reporter | None = None,
) -> list[OutputRow]:
    """Predict the people in a video or image.

    Args:
        run: None takes `fer`, which comes with the package.
        backbones, faces, raw, device: see `PredictOptions`.

    Returns:
        A row for each frame and each person seen in it, in temporal order.

    Raises:
        AbawError: the run cannot predict faces, or this file cannot be predicted.
    """
    options = PredictOptions(backbones=tuple(backbones), faces=faces, raw=raw, device=device)
    list_inputs((file,))  # its error says what a file can be
    predictor = open_face_predictor(run, options)
    if predictor.note and reporter is not None:
        reporter.warn(predictor.note)
    with tempfile.TemporaryDirectory(prefix="abaw-") as folder:
        predicted = predict_file(predictor, file, Path(folder) / "data", options, reporter or Silent())
        return list(rows_of(predicted, predictor.task))


def predict_videos(run: Run | None, options: PredictOptions, reporter: Reporter | None = None) -> PredictSummary:
    """Predict files into folders `out/<name>/`, each complete or absent; errors of single files go into the summary.

    Files that an earlier call with the same run and options finished are skipped. Each folder has `predictions.csv` and
    `predictions.json`, of a video also `timeline.png` and, unless left out, `overlay.mp4`; of an image `overlay.jpg`.

    Args:
        run: None takes `fer`, which comes with the package.

    Raises:
        AbawError: nothing could be started: no files, weights that do not fit, a folder that cannot be written to.
    """
    reporter = reporter or Silent()
    files = list_inputs(options.files)
    make_folder(options.out)
    predictor = open_face_predictor(run, options)
    summary = PredictSummary(trust=TRUST if run is None else "")
    if predictor.note and not summary.trust:
        reporter.warn(predictor.note)
    if predictor.image_note and any(map(is_image, files)):
        reporter.warn(predictor.image_note)
    images, videos = [file for file in files if is_image(file)], [file for file in files if not is_image(file)]
    reporter.start("predict", len(images), "images" if len(images) > 1 else "image")
    for file in images:
        _predict_file(predictor, file, options, Silent(), summary)
        reporter.advance(1, file.name)
    reporter.finish()
    for file in videos:
        _predict_file(predictor, file, options, reporter, summary)
    for file in summary.busy.copy():  # another process may have finished them meanwhile
        del summary.failed[name_of(file)]
        _predict_file(predictor, file, options, reporter, summary)
    names = [name for name in map(name_of, images) if name not in summary.failed]
    if len(names) > 1:
        summary.table = options.out / IMAGES
        _write_table(summary.table, [options.out / name for name in names])
    return summary


def _predict_file(
    predictor: FacePredictor, file: Path, options: PredictOptions, reporter: Reporter, summary: PredictSummary
) -> None:
    """Predict one file into its folder; what happened goes into the summary."""
    name = name_of(file)
    try:
        predicted = _predict_into(predictor, file, options, reporter)
    except BusyError as error:
        summary.failed[name] = str(error)
        summary.busy.append(file)
    except OSError as error:
        if is_disk_full(error):
            raise
        summary.failed[name] = in_words(error)
    except Exception as error:  # an error in one file must not stop the others
        summary.failed[name] = in_words(error)
    else:
        if predicted is None:
            summary.skipped.append(name)
            return
        summary.done.append(name)
        summary.results[name] = predicted[1]
        summary.n_frames += predicted[0].n_frames
        summary.warnings += [f"{name}: {note}" for note in predicted[0].notes]


def _write_table(path: Path, folders: Sequence[Path]) -> None:
    """Write the rows of several images into one table, without frame and time."""
    with claimed(path), writing(path) as partial, partial.open("w", newline="", encoding="utf-8") as stream:
        table: csv.DictWriter[str] | None = None
        for folder in folders:
            with (folder / CSV).open(newline="", encoding="utf-8") as rows:
                reader = csv.DictReader(rows)
                columns = [
                    "image",
                    *(column for column in reader.fieldnames or () if column not in ("frame", "time_s")),
                ]
                if table is None:
                    table = csv.DictWriter(stream, columns, extrasaction="ignore", lineterminator="\n")
                    table.writeheader()
                table.writerows({"image": as_cell(folder.name), **row} for row in reader)


def _predict_into(
    predictor: FacePredictor, file: Path, options: PredictOptions, reporter: Reporter
) -> tuple[PredictedFile, FileResult] | None:
    """Make the folder of a file; None if an earlier call made it."""
    folder = options.out / name_of(file)
    sources = _sources(predictor, file, options)
    pictures = _pictures_of(file, options.overlay)
    with claimed(folder):
        if _is_done(folder, sources, pictures) and has_content(file, _content_in(folder, sources)):
            return None
        if folder.exists():
            raise UsageError(f"{folder} exists. Delete it, or choose another folder with --out.")
        with writing(folder) as partial:
            partial.mkdir()
            predicted = predict_file(predictor, file, partial / "data", options, reporter)
            n_with_face = _write(predictor, predicted, sources, partial)
            if options.overlay and is_image(file):
                _draw_image(predictor, predicted, partial / IMAGE_OVERLAY)
            elif options.overlay:
                _draw(predictor, predicted, partial / OVERLAY, reporter)
            shutil.rmtree(partial / "data")
    return predicted, FileResult(folder, pictures, predicted.people, predicted.n_frames, n_with_face)


def _pictures_of(file: Path, overlay: bool) -> tuple[str, ...]:
    """Names of the pictures in the folder of a file."""
    if is_image(file):
        return (IMAGE_OVERLAY,) if overlay else ()
    return (OVERLAY, TIMELINE) if overlay else (TIMELINE,)


def _write(predictor: FacePredictor, predicted: PredictedFile, sources: dict[str, Any], folder: Path) -> int:
    """Write the tables and the timeline; returns the number of frames with a face."""
    image_note = predictor.image_note if is_image(predicted.file) else ""
    timeline, notes = Timeline(predictor.task), [*filter(None, [predictor.note, image_note]), *predicted.notes]
    content = content_of(predicted.file)
    head = {**sources, CONTENT: content, "n_frames": predicted.n_frames, "people": predicted.people, "notes": notes}
    frames: set[int] = set()
    with row_writer(folder, predictor.task, head) as write:
        for row in rows_of(predicted, predictor.task):
            write(row)
            timeline.add(row)
            frames.add(row.frame)
    if not is_image(predicted.file):
        span = probe_span(predicted.file)
        title = f"{predicted.name}: predicted by {predictor.name}"
        timeline.save(folder / TIMELINE, title, span.start_s, span.start_s + span.pictured_s, predicted.people)
    return len(frames)


def _sources(predictor: FacePredictor, file: Path, options: PredictOptions) -> dict[str, Any]:
    """What predictions follow from: a file is predicted again if any of it has changed. Begins `predictions.json`."""
    return {
        "abaw": __version__,
        "image" if is_image(file) else "video": file.name,
        "size_bytes": file.stat().st_size,
        **predictor.sources(),
        "faces": options.faces,
        **({"identity": identity_key(options.identity)} if options.identity and not is_image(file) else {}),
    }


def _is_done(folder: Path, sources: dict[str, Any], pictures: Sequence[str]) -> bool:
    """True if a folder is complete, and was made by the same run with the same options."""
    if not all((folder / name).is_file() for name in (CSV, *pictures)):
        return False
    begin = begin_of_json(sources)
    try:
        with (folder / JSON).open(encoding="utf-8") as stream:
            return stream.read(len(begin)) == begin
    except (OSError, ValueError):
        return False


def _content_in(folder: Path, sources: dict[str, Any]) -> str:
    """`content_of` the file whose predictions are in a folder; empty if an older version made them."""
    with (folder / JSON).open(encoding="utf-8") as stream:
        stream.read(len(begin_of_json(sources)))
        content = re.match(rf',\n "{CONTENT}": "([^"]*)"', stream.read(MOST_CONTENT))
    return content[1] if content else ""


def _draw_image(predictor: FacePredictor, predicted: PredictedFile, out: Path) -> None:
    image = read_image(predicted.file)
    rows = list(rows_of(predicted, predictor.task))
    save_jpeg(out, draw_faces(predictor.task, image, rows))


def _draw(predictor: FacePredictor, predicted: PredictedFile, out: Path, reporter: Reporter) -> None:
    """Draw the overlay in a second pass over the video; the rows are read in step with the frames."""
    overlay = Overlay(predictor.task, predicted.people)
    times = read_times(predicted.file, predicted.n_frames)
    frames = groupby(rows_of(predicted, predictor.task), key=lambda row: row.frame)
    waiting: tuple[int, dict[str, OutputRow]] | None = None

    def rows_in(number: int) -> dict[str, OutputRow]:
        nonlocal waiting
        while waiting is None or waiting[0] < number + 1:
            following = next(frames, None)
            waiting = (following[0], {row.person: row for row in following[1]}) if following else (2**62, {})
        return waiting[1] if waiting[0] == number + 1 else {}

    def draw(number: int, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        time_s = times.start_s + float(times.edges_ns[min(number, len(times.edges_ns) - 1)]) / NS
        return overlay.draw(image, rows_in(number), time_s)

    reporter.start("overlay", predicted.n_frames, "frames")
    for _ in redraw(predicted.file, out, draw):
        reporter.advance(1, predicted.name)
    reporter.finish()
