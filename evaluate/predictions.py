"""Predictions by video, and their HDF5 files.

The file `predictions-<split>.h5` of a run or ensemble has a group for each video:

    /<video>            attributes: fps, frames a second, 0 if unknown; person, who is in it, missing if unknown
        outputs         (rows, outputs) float32, before post-processing; row i is frame i + 1 as the video decodes
        labels          (rows, columns) float32 as published, with the invalid value where not annotated
        present         (rows,) bool, the frame has a crop (with several visual features, in each of them)
        doubles         (doubles, columns) float32, second labels of frames that are labelled twice; often missing
        doubles_rows    (doubles,) int64, ascending, the row of each of them
        confident       (rows, classes) float32, probabilities of a classifier that the run's post-processing prefers, NaN in
                        frames without it; attribute `fingerprint`: that of its feature; often missing

Attributes of the file say what that means; those of files that older versions wrote are `outputs` and `made_from` alone:

    task, level         its name; what a row is: a frame, an image or a whole video
    outputs             name of each output
    output_kinds        of each output: `value`, as in the labels but not clipped to their range; `class logit`, softmax over
                        the outputs of the same task gives probabilities; `logit`, its sigmoid is a probability
    output_tasks        of each output, the plain task that it belongs to: `mtl` has outputs of va, expr and au
    columns             name of each label column
    invalid             of each label column, the value that means: not annotated
    postprocessed       false for a run; true for an ensemble of runs with a post-processing, unless it was made with --raw
    about_present       what `present` means, in a sentence
    store               path or URL of the store that they were predicted from; empty if unknown
    made_from           digest of the checkpoints that the predictions come from; empty if unknown
    abaw                version that wrote the file
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from abaw import __version__
from abaw.core.doubles import Doubles
from abaw.core.files import writing
from abaw.core.output_stream import OutputStream
from abaw.core.tasks import Task

OUTPUT_KINDS = {"regression": "value", "classes": "class logit", "binary": "logit"}


@dataclass(frozen=True)
class Confident:
    """Probabilities of a classifier next to predictions.

    Attributes:
        fingerprint: of the feature.
        probabilities: (rows, classes of the feature) float32; NaN in frames without it.
    """

    fingerprint: str
    probabilities: NDArray[np.float32]


@dataclass(frozen=True)
class VideoPrediction:
    """Outputs for a video next to its labels; a single row for tasks of whole videos.

    Attributes:
        outputs: (rows, outputs) float32, without gaps.
        labels: (rows, columns) float32 as published.
        present: (rows,) bool, the frame has a crop (every visual feature).
        fps: frames a second; 0 if the video has no feature.
        doubles: second labels of rows that are labelled twice. Compare outputs with labels through `by_label`.
        has_feature: (rows,) bool, the frame has at least one feature, and its output was not filled from other frames.
            None if unknown, as in predictions read from a file.
        confident: of the classifier that the post-processing prefers where it is sure; None without such.
        person: who is in the video; empty if unknown.
    """

    outputs: NDArray[np.float32]
    labels: NDArray[np.float32]
    present: NDArray[np.bool_]
    fps: float
    doubles: Doubles | None = None
    has_feature: NDArray[np.bool_] | None = None
    confident: Confident | None = None
    person: str = ""

    def by_label(self) -> "VideoPrediction":
        """One row for each label: first every row, then the rows with a second label again."""
        if self.doubles is None:
            return self
        repeated = self.doubles.rows
        return VideoPrediction(
            np.concatenate([self.outputs, self.outputs[repeated]]),
            np.concatenate([self.labels, self.doubles.labels]),
            np.concatenate([self.present, self.present[repeated]]),
            self.fps,
            person=self.person,
        )


def stack_labels(
    videos: Iterable[VideoPrediction],
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
    """Outputs, labels and presence of videos, one after another, with a row for each label."""
    videos = [video.by_label() for video in videos]
    outputs, labels, present = ([getattr(video, name) for video in videos] for name in ("outputs", "labels", "present"))
    return np.concatenate(outputs), np.concatenate(labels), np.concatenate(present)


def fill_gaps(values: NDArray[np.float32], present: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Fill rows that are not present by linear interpolation over time; the nearest value at both ends.

    Args:
        values: (rows, outputs).
        present: (rows,) bool, at least one True.
    """
    rows, present_rows = np.arange(len(values)), np.flatnonzero(present)
    columns = [np.interp(rows, present_rows, values[present_rows, column]) for column in range(values.shape[1])]
    return np.stack(columns, axis=1).astype(np.float32)


def save_predictions(
    path: Path,
    predictions: Mapping[str, VideoPrediction],
    task: Task,
    made_from: str = "",
    postprocessed: bool = False,
    store: str = "",
) -> None:
    """Write predictions as HDF5; see the head of this module.

    Args:
        made_from: digest of the checkpoints that the predictions come from; empty if unknown.
        postprocessed: post-processing has been applied to them.
        store: path or URL of the store that they were predicted from.
    """
    with writing(path) as partial, OutputStream(partial) as stream, h5py.File(stream, "w") as file:
        file.attrs.update(_describe(task))
        file.attrs.update({"made_from": made_from, "postprocessed": postprocessed, "store": store, "abaw": __version__})
        for video, prediction in predictions.items():
            group = file.create_group(video)
            group.attrs["fps"] = prediction.fps
            if prediction.person:
                group.attrs["person"] = prediction.person
            for name in ("outputs", "labels", "present"):
                group.create_dataset(name, data=getattr(prediction, name))
            if prediction.doubles is not None:
                group.create_dataset("doubles", data=prediction.doubles.labels)
                group.create_dataset("doubles_rows", data=prediction.doubles.rows)
            if prediction.confident is not None:
                dataset = group.create_dataset("confident", data=prediction.confident.probabilities)
                dataset.attrs["fingerprint"] = prediction.confident.fingerprint


def _describe(task: Task) -> dict[str, Any]:
    """The attributes of a file that follow from its task."""
    has_crop = (
        "the frame has a crop, in every visual feature" if task.level == "frame" else f"the {task.level} has a feature"
    )
    parts = [part for part, _, _ in task.each() for _ in part.outputs]
    return {
        "task": task.name,
        "level": task.level,
        "outputs": list(task.outputs),
        "output_kinds": [OUTPUT_KINDS[part.kind] for part in parts],
        "output_tasks": [part.name for part in parts],
        "columns": list(task.columns),
        "invalid": [float(value) for value in task.invalid_row],
        "about_present": f"True where {has_crop}; rows without any feature have interpolated outputs.",
    }


def load_predictions(path: Path) -> dict[str, VideoPrediction]:
    """Read what `save_predictions` wrote. Links and values in other files are refused.

    Raises:
        Exception: the file is damaged or holds something else; HDF5 raises many types of errors.
    """
    with h5py.File(path, "r") as file:
        return {
            video: VideoPrediction(
                _values(file, f"{video}/outputs", np.dtype(np.float32)),
                _values(file, f"{video}/labels", np.dtype(np.float32)),
                _values(file, f"{video}/present", np.dtype(np.bool_)),
                float(file[video].attrs["fps"]),
                _read_doubles(file, video),
                confident=_read_confident(file, video),
                person=str(file[video].attrs.get("person", "")),
            )
            for video in file
        }


def _read_doubles(file: h5py.File, video: str) -> Doubles | None:
    if "doubles" not in file[video] and "doubles_rows" not in file[video]:
        return None
    rows = _values(file, f"{video}/doubles_rows", np.dtype(np.int64))
    return Doubles(rows, _values(file, f"{video}/doubles", np.dtype(np.float32)))


def _read_confident(file: h5py.File, video: str) -> Confident | None:
    if "confident" not in file[video]:
        return None
    probabilities = _values(file, f"{video}/confident", np.dtype(np.float32))
    if probabilities.ndim != 2 or len(probabilities) != len(file[f"{video}/outputs"]):
        raise ValueError(f"{video}/confident has shape {probabilities.shape}")
    return Confident(str(file[f"{video}/confident"].attrs["fingerprint"]), probabilities)


def _values(file: h5py.File, name: str, dtype: np.dtype) -> NDArray:
    video, _, member = name.rpartition("/")
    for group, key in ((file, video), (file[video], member)):
        if not isinstance(group.get(key, getlink=True), h5py.HardLink):
            raise ValueError(f"{key} is missing or a link")
    dataset = file[name]
    if dataset.is_virtual or dataset.external or dataset.dtype != dtype:
        raise ValueError(f"{name} does not contain {dtype.name} values")
    if dataset.size * dtype.itemsize > Path(file.filename).stat().st_size:  # the file is not compressed
        raise ValueError(f"{name} claims more values than the file has")
    return np.asarray(dataset[...])


def read_made_from(path: Path) -> str:
    """The digest that `save_predictions` wrote; empty in files of older versions."""
    with h5py.File(path, "r") as file:
        return str(file.attrs.get("made_from", ""))


def read_store(path: Path) -> str:
    """The path of the store that `save_predictions` wrote; empty in files of older versions."""
    with h5py.File(path, "r") as file:
        return str(file.attrs.get("store", ""))
