"""Dense prediction: an output for every labelled row, by overlapping windows that are averaged."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from abaw.core.doubles import Doubles
from abaw.core.files import new_partial
from abaw.train import distributed
from abaw.train.table import Table
from abaw.train.windows import WindowSampler, batches

FRAMES_PER_BATCH = 8_192


@dataclass(frozen=True)
class VideoPrediction:
    """Outputs for a video beside its labels; one row each where a task is about whole videos.

    Attributes:
        outputs: (rows, outputs) float32, without gaps.
        labels: (rows, columns) float32 as published.
        present: (rows,) bool, the frame has a crop (every visual feature).
        fps: frames a second; 0 where the video has no feature at all.
        doubles: further labels of rows that are labelled twice. What compares outputs with labels takes `by_label`.
    """

    outputs: NDArray[np.float32]
    labels: NDArray[np.float32]
    present: NDArray[np.bool_]
    fps: float
    doubles: Doubles | None = None

    def by_label(self) -> "VideoPrediction":
        """The same with a row for each label: those of the doubles follow all others, which stay where they are."""
        if self.doubles is None:
            return self
        again = self.doubles.rows
        return VideoPrediction(
            np.concatenate([self.outputs, self.outputs[again]]),
            np.concatenate([self.labels, self.doubles.labels]),
            np.concatenate([self.present, self.present[again]]),
            self.fps,
        )


def predict(model: nn.Module, table: Table, window: int, device: torch.device) -> dict[str, VideoPrediction]:
    """Predict every row of a table, or every video of a task of whole videos.

    Windows overlap by half and the outputs of a row (or video) are averaged; with several processes each takes a share
    of the windows, and all get the whole. The windows of a video end with its last row that has a feature, so that its
    outputs do not depend on how many rows follow. Rows without any feature are filled by linear interpolation over time,
    with the nearest output at the ends of a video; a video, or an image, without any gets the mean output of all others.
    """
    outputs = _window_outputs(model, table, window, device)
    if table.task.level == "video":
        return _video_predictions(outputs, table)
    mean = outputs[table.has_any if table.has_any.any() else slice(None)].mean(axis=0)
    predictions = {}
    for i, video in enumerate(table.videos):
        rows = table.rows(i)
        has, found = table.has_any[rows], outputs[rows]
        if table.task.level == "image" or not has.any():
            found = np.where(has[:, None], found, mean)
        else:
            found = fill_gaps(found, has)
        labels, doubles = table.labels[rows], table.doubles_of(i)
        predictions[video] = VideoPrediction(found, labels, table.has_crop[rows], float(table.fps[i]), doubles)
    return predictions


def _video_predictions(outputs: NDArray[np.float32], table: Table) -> dict[str, VideoPrediction]:
    has_any = np.array([table.has_any[table.rows(i)].any() for i in range(len(table.videos))])
    outputs = np.where(has_any[:, None], outputs, outputs[has_any if has_any.any() else slice(None)].mean(axis=0))
    labels = table.labels[table.starts[:-1]]
    return {
        video: VideoPrediction(outputs[[i]], labels[[i]], has_any[[i]], float(table.fps[i]))
        for i, video in enumerate(table.videos)
    }


def _window_outputs(model: nn.Module, table: Table, window: int, device: torch.device) -> NDArray[np.float32]:
    """(rows, outputs), or (videos, outputs) for a task of whole videos: averaged over the windows that hold one."""
    sampler, width = WindowSampler(table, window), len(table.task.outputs)
    is_whole = table.task.level == "video"
    n_places = len(table.videos) if is_whole else len(table.labels)
    # steps after the end of a video go to one extra place that is dropped
    total, counts = torch.zeros(n_places + 1, width), torch.zeros(n_places + 1)
    model.eval()
    with torch.inference_mode():
        windows = sampler.windows(max(1, window // 2), ends=None if is_whole else _ends(table))
        for part in batches(windows, max(1, FRAMES_PER_BATCH // window)):
            part = distributed.own_share(part)
            batch = sampler.batch(part).to(device)
            # a model may give more than the task's outputs: what follows is for its loss
            given = model(batch.features, batch.masks)[..., :width].float().cpu()
            if is_whole:
                places = np.where(part[:, 1] > 0, sampler.videos_of(part), n_places)
            else:
                rows, inside = sampler.rows_of(part)
                places = np.where(inside, rows, n_places).ravel()
            index = torch.from_numpy(places)
            total.index_add_(0, index, given.reshape(-1, width))
            counts.index_add_(0, index, torch.ones(len(index)))
        distributed.add_up(total, device)
        distributed.add_up(counts, device)
    return (total[:-1] / counts[:-1, None].clamp(min=1)).numpy()


def _ends(table: Table) -> NDArray[np.int64]:
    """(videos,) the row after the last one of each video that has a feature, or after the video where none has."""
    ends = table.starts[1:].copy()
    for i in range(len(ends)):
        has = np.flatnonzero(table.has_any[table.rows(i)])
        if len(has):
            ends[i] = table.starts[i] + has[-1] + 1
    return ends


def fill_gaps(values: NDArray[np.float32], present: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Fill rows that are not present by linear interpolation over time; the nearest value at both ends.

    Args:
        values: (rows, outputs).
        present: (rows,) bool, at least one True.
    """
    rows, places = np.arange(len(values)), np.flatnonzero(present)
    columns = [np.interp(rows, places, values[places, column]) for column in range(values.shape[1])]
    return np.stack(columns, axis=1).astype(np.float32)


def save_predictions(
    path: Path, predictions: Mapping[str, VideoPrediction], output_names: tuple[str, ...], made_from: str = ""
) -> None:
    """Write predictions as HDF5: `/<video>/outputs`, `labels`, `present`; attributes `fps`, `outputs` (names), `made_from`.

    Where rows are labelled twice there are also `doubles`, the further labels, and `doubles_rows`, their rows.

    Args:
        made_from: digest of the checkpoints that predicted; empty if nobody can tell.
    """
    partial = new_partial(path)
    with h5py.File(partial, "w") as file:
        file.attrs["outputs"] = list(output_names)
        file.attrs["made_from"] = made_from
        for video, found in predictions.items():
            group = file.create_group(video)
            group.attrs["fps"] = found.fps
            for name in ("outputs", "labels", "present"):
                group.create_dataset(name, data=getattr(found, name))
            if found.doubles is not None:
                group.create_dataset("doubles", data=found.doubles.labels)
                group.create_dataset("doubles_rows", data=found.doubles.rows)
    partial.replace(path)


def load_predictions(path: Path) -> dict[str, VideoPrediction]:
    """Read what `save_predictions` wrote. Links are not followed, and values are not taken from other files.

    Raises:
        Exception: the file is damaged, or of something else; HDF5 raises many types.
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
    video, _, own = name.rpartition("/")
    for group, member in ((file, video), (file[video], own)):
        if not isinstance(group.get(member, getlink=True), h5py.HardLink):
            raise ValueError(f"{member} is missing or a link")
    found = file[name]
    if found.is_virtual or found.external or found.dtype != dtype:
        raise ValueError(f"{name} holds no {dtype.name} values of its own")
    if found.size * dtype.itemsize > Path(file.filename).stat().st_size:  # nothing in it is compressed
        raise ValueError(f"{name} claims more values than the file has")
    return np.asarray(found[...])


def read_made_from(path: Path) -> str:
    """The digest that `save_predictions` wrote; empty in files of versions that wrote none."""
    with h5py.File(path, "r") as file:
        return str(file.attrs.get("made_from", ""))
