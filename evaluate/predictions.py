"""Predictions by video, and their HDF5 files."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from abaw.core.doubles import Doubles
from abaw.core.files import writing


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
    """

    outputs: NDArray[np.float32]
    labels: NDArray[np.float32]
    present: NDArray[np.bool_]
    fps: float
    doubles: Doubles | None = None
    has_feature: NDArray[np.bool_] | None = None

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
    path: Path, predictions: Mapping[str, VideoPrediction], output_names: tuple[str, ...], made_from: str = ""
) -> None:
    """Write predictions as HDF5: `/<video>/outputs`, `labels`, `present`; attributes `fps`, `outputs` (names), `made_from`.

    Where rows are labelled twice there are also `doubles`, the second labels, and `doubles_rows`, their rows.

    Args:
        made_from: digest of the checkpoints that the predictions come from; empty if unknown.
    """
    with writing(path) as partial, h5py.File(partial, "w") as file:
        file.attrs["outputs"] = list(output_names)
        file.attrs["made_from"] = made_from
        for video, prediction in predictions.items():
            group = file.create_group(video)
            group.attrs["fps"] = prediction.fps
            for name in ("outputs", "labels", "present"):
                group.create_dataset(name, data=getattr(prediction, name))
            if prediction.doubles is not None:
                group.create_dataset("doubles", data=prediction.doubles.labels)
                group.create_dataset("doubles_rows", data=prediction.doubles.rows)


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
            )
            for video in file
        }


def _read_doubles(file: h5py.File, video: str) -> Doubles | None:
    if "doubles" not in file[video] and "doubles_rows" not in file[video]:
        return None
    rows = _values(file, f"{video}/doubles_rows", np.dtype(np.int64))
    return Doubles(rows, _values(file, f"{video}/doubles", np.dtype(np.float32)))


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
