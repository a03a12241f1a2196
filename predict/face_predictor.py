"""What predicts faces, a trained run or `fer`, and the way of one file through it: faces first, then their outputs."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from abaw.core.csv_cells import as_cell
from abaw.core.errors import AbawError, DataError
from abaw.core.progress import Reporter, Summary
from abaw.core.tasks import Task
from abaw.datasets.video_files import FACES
from abaw.extract.faces.detector import DEFAULT_DETECTOR, create_detector
from abaw.extract.faces.following import FaceFollower
from abaw.extract.faces.layout import Files, Record
from abaw.extract.faces.prepare import PrepareOptions, prepare_videos
from abaw.media.images import read_image
from abaw.predict.input_files import PredictOptions, is_image, name_of
from abaw.predict.output_rows import OutputRow, output_values


@dataclass
class PredictedFile:
    """Predictions of a video or image.

    Attributes:
        file: the video or image.
        folder: of a temporary dataset of this file alone.
        people: names of the people seen in it, from left to right.
        n_frames: of the video; 1 for an image.
        notes: sentences on what is unusual about the file.
        outputs: (frames, outputs) by person.
    """

    file: Path
    folder: Path
    people: tuple[str, ...] = ()
    n_frames: int = 0
    notes: list[str] = field(default_factory=list)
    outputs: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the predictions."""
        return name_of(self.file)


class FacePredictor(Protocol):
    """A network for faces, loaded, to be used on one file after another.

    Attributes:
        note: a sentence on what to know about its predictions; empty if there is nothing.
        image_note: likewise about its predictions of images.
    """

    note: str
    image_note: str

    @property
    def name(self) -> str:
        """Name of the run."""

    @property
    def task(self) -> Task:
        """What the outputs are."""

    def sources(self) -> dict[str, Any]:
        """What the predictions follow from besides the file: if any of it changes, a file is predicted again."""

    def predict(self, predicted: PredictedFile, reporter: Reporter) -> None:
        """Fill in the outputs of all people in a file, and add notes.

        Raises:
            AbawError: the file cannot be predicted; the sentence says why.
        """


def predict_file(
    predictor: FacePredictor, file: Path, folder: Path, options: PredictOptions, reporter: Reporter
) -> PredictedFile:
    """Find the faces of a file and predict them.

    Args:
        folder: an empty one, for a dataset of this file.

    Raises:
        AbawError: the file cannot be predicted; the sentence says why.
    """
    record = (
        _prepare_image(file, folder, options) if is_image(file) else _prepare_video(file, folder, options, reporter)
    )
    predicted = PredictedFile(file, folder, record.people, record.n_frames, list(record.notes))
    if predicted.people:
        predictor.predict(predicted, reporter)
    return predicted


def _prepare_video(file: Path, folder: Path, options: PredictOptions, reporter: Reporter) -> Record:
    """Write the crops of a video and the table of its faces as `abaw prepare` does."""
    prepare = PrepareOptions((file,), folder, options.faces, device=options.device, identity=options.identity)
    check_done(prepare_videos(prepare, reporter), file)
    record = Record.read(folder / FACES / f"{name_of(file)}.json")
    assert record is not None, "prepare_videos ends with it"
    return record


def _prepare_image(file: Path, folder: Path, options: PredictOptions) -> Record:
    """Write the crops of an image and the table of its faces as those of a video of one frame."""
    files = Files(folder, file, name_of(file))
    files.check_name()
    image = read_image(file)
    (folder / FACES).mkdir(parents=True)
    files.begin()
    follower = FaceFollower(file, create_detector(DEFAULT_DETECTOR, options.device), every=1, image=image)
    for _ in files.write_faces(iter(follower)):
        pass
    names = follower.names(files.video, options.faces)
    notes = () if names else ("no face was found in it",)
    request = Record(file.name, file.stat().st_size, options.faces, DEFAULT_DETECTOR, every=1, n_frames=1, notes=notes)
    return files.finish(names, request)


def rows_of(predicted: PredictedFile, task: Task) -> Iterator[OutputRow]:
    """The rows of a file in temporal order: one for each frame and each person seen in it."""
    names = {as_cell(person): person for person in predicted.people}
    with (predicted.folder / FACES / f"{predicted.name}.csv").open(newline="", encoding="utf-8") as table:
        for line in csv.DictReader(table):
            frame, person = int(line["frame"]), names[line["person"]]
            outputs = output_values(task, predicted.outputs[person][frame - 1])
            left, top, right, bottom = (float(line[side]) for side in ("left", "top", "right", "bottom"))
            yield OutputRow(frame, float(line["time_s"]), person, outputs, (left, top, right, bottom))


def check_done(summary: Summary, file: Path) -> None:
    """Raise a DataError if a stage failed on its only video; other errors if it was stopped."""
    if summary.failed:
        raise DataError(next(iter(summary.failed.values())))
    summary.raise_if_interrupted()
    if summary.stopped:
        raise AbawError(f"{file.name} was stopped: {summary.stopped.sentence}")
