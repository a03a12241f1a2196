"""Features and labels in contiguous arrays, and windows drawn from them by index."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from torch import Tensor

from abaw.errors import UsageError
from abaw.store import FeatureStore, VideoFeature
from abaw.tasks import Task

STATISTICS_ROWS = 16_384  # summed at a time
Missing = Literal["mask", "nearest"]


@dataclass(frozen=True)
class Table:
    """Videos of a split, one after another in every array.

    Attributes:
        videos: names; video i has the rows `starts[i]` to `starts[i + 1]`.
        starts: (videos + 1,) int64.
        values: by feature, (rows, *shape) float16 or float32; zero where a frame is missing.
        present: (rows,) bool, the frame has all features by itself or, with `missing="nearest"`, from a neighbour.
        seen: (rows,) bool, the frame has all features by itself.
        labels: (rows, columns) float32 as published, invalid values kept.
        valid: (rows, columns) bool, the label is annotated.
        fps: (videos,) frames a second; 0 where the video has no feature.
    """

    videos: tuple[str, ...]
    starts: NDArray[np.int64]
    values: Mapping[str, NDArray]
    present: NDArray[np.bool_]
    seen: NDArray[np.bool_]
    labels: NDArray[np.float32]
    valid: NDArray[np.bool_]
    fps: NDArray[np.float64]

    def rows(self, video: int) -> slice:
        """Rows of video number `video`."""
        return slice(int(self.starts[video]), int(self.starts[video + 1]))


def load_table(
    store: FeatureStore, task: Task, split: str, features: Sequence[str], missing: Missing = "mask"
) -> Table:
    """Load the labelled videos of a split with their features, each read once, checksums verified.

    A video has as many rows as its labels or its features have, whichever are more; rows without the one are not
    present, rows without the other not valid. Labelled videos without a feature are kept: none of their rows is
    present. Arrays larger than half of the free memory are kept in an unnamed temporary file ($TMPDIR).

    Raises:
        UsageError: no labels of the task and split, a feature that is not there, or no labelled video has them all.
        StoreError: a video is damaged.
    """
    labels = store.labels(task.name, split)
    if not labels:
        raise UsageError(_no_labels(store, task, split))
    shapes = {feature: tuple(store.feature_attrs(feature)["spec"]["shape"]) for feature in features}
    known = {feature: store.videos(feature) for feature in features}
    if not any(all(video in known[feature] for feature in features) for video in labels):
        raise UsageError(
            f"None of the {len(labels)} videos with {task.name} labels ({split}) has {' and '.join(features)} in "
            f"{store.path}. Run `abaw extract` on the data folder that has their crops."
        )
    lengths = [
        max([len(labels[video].rows)] + [int(known[f][video]["n_frames"]) for f in features if video in known[f]])
        for video in labels
    ]
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    wide = any(attrs["dtype"] == "float32" for feature in features for attrs in known[feature].values())
    table = _empty_table(task, tuple(labels), starts, shapes, np.dtype(np.float32 if wide else np.float16))
    for i, video in enumerate(labels):
        rows = table.rows(i)
        n_labels = len(labels[video].rows)
        table.labels[rows][:n_labels] = labels[video].rows
        table.valid[rows][:n_labels] = task.valid(labels[video].rows)
        if all(video in known[feature] for feature in features):
            _place(table, i, {feature: store.read(feature, video) for feature in features}, missing)
    return table


def _place(table: Table, video: int, read: Mapping[str, VideoFeature], missing: Missing) -> None:
    """Put the features of a video into its rows."""
    rows = table.rows(video)
    n_rows = rows.stop - rows.start
    seen, present = np.ones(n_rows, dtype=np.bool_), np.ones(n_rows, dtype=np.bool_)
    for feature, found in read.items():
        n_frames = len(found.values)
        table.values[feature][rows][:n_frames] = found.values
        has = np.zeros(n_rows, dtype=np.bool_)
        has[:n_frames] = found.present
        seen &= has
        if missing == "nearest" and has.any():
            table.values[feature][rows] = table.values[feature][rows][nearest_present(has)]
        else:
            present &= has
        table.fps[video] = found.fps
    table.seen[rows], table.present[rows] = seen, present


def nearest_present(present: NDArray[np.bool_]) -> NDArray[np.int64]:
    """For each row the nearest row that is present, the earlier one of two; (rows,) of which one at least is present."""
    places = np.flatnonzero(present)
    rows = np.arange(len(present))
    after = np.searchsorted(places, rows).clip(max=len(places) - 1)
    before = (after - 1).clip(min=0)
    is_before = np.abs(rows - places[before]) <= np.abs(places[after] - rows)
    return np.where(is_before, places[before], places[after])


def _no_labels(store: FeatureStore, task: Task, split: str) -> str:
    have = store.tasks()
    if task.name not in have:
        there = f"has labels of {', '.join(have)} only" if have else "has no labels at all"
        return f"{store.path} {there}; {task.name} needs them. Put the label folders beside the crops and run `abaw extract` again."
    splits = sorted({found.split for found in store.labels(task.name).values()})
    return (
        f"{store.path} has {task.name} labels of {', '.join(splits)} but none of {split!r}. Put the label files of that split "
        "beside the crops and run `abaw extract` again, or choose another --split."
    )


def _empty_table(
    task: Task,
    videos: tuple[str, ...],
    starts: NDArray[np.int64],
    shapes: Mapping[str, tuple[int, ...]],
    dtype: np.dtype,
) -> Table:
    n_rows = int(starts[-1])
    columns = (n_rows, len(task.columns))
    return Table(
        videos=videos,
        starts=starts,
        values={feature: allocate((n_rows, *shape), dtype) for feature, shape in shapes.items()},
        present=np.zeros(n_rows, dtype=np.bool_),
        seen=np.zeros(n_rows, dtype=np.bool_),
        labels=np.full(columns, task.invalid, dtype=np.float32),
        valid=np.zeros(columns, dtype=np.bool_),
        fps=np.zeros(len(videos)),
    )


def allocate(shape: tuple[int, ...], dtype: np.dtype, budget_bytes: int | None = None) -> NDArray:
    """Zeros in memory, or in an unnamed temporary file where they are larger than half of the free memory."""
    n_bytes = int(np.prod(shape)) * dtype.itemsize
    budget_bytes = psutil.virtual_memory().available // 2 if budget_bytes is None else budget_bytes
    if n_bytes <= budget_bytes:
        return np.zeros(shape, dtype=dtype)
    # the file has no name: it goes with the process, however that ends
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, dtype=dtype, mode="w+", shape=shape)


@dataclass(frozen=True)
class Batch:
    """Windows of a table.

    Attributes:
        features: by name, (windows, time, *shape) as stored.
        mask: (windows, time) bool, the frame is inside the video and present.
        labels: (windows, time, columns) float32.
        valid: (windows, time, columns) bool, the label counts: annotated, and the frame is in the mask.
    """

    features: dict[str, Tensor]
    mask: Tensor
    labels: Tensor
    valid: Tensor

    def to(self, device: torch.device) -> "Batch":
        """The batch on a device, features as float32."""
        moved = {name: values.to(device, non_blocking=True).float() for name, values in self.features.items()}
        return Batch(moved, self.mask.to(device), self.labels.to(device), self.valid.to(device))


class WindowSampler:
    """Draws windows of `length` frames from a table by index, in this process: no copy but the batch itself."""

    def __init__(self, table: Table, length: int) -> None:
        self.table, self.length = table, length
        self._steps = np.arange(length)

    def epoch(self, stride: int, batch_size: int, seed: Sequence[int]) -> Iterator[Batch]:
        """Batches of one pass over all videos, in random order.

        In each video windows start every `stride` frames from a random phase; the last ones are moved back into
        the video, and a video shorter than a window is one window.
        """
        rng = np.random.default_rng(list(seed))
        windows = self.windows(stride, rng)
        windows = windows[rng.permutation(len(windows))]
        for start in range(0, len(windows), batch_size):
            yield self.batch(windows[start : start + batch_size])

    def n_windows(self, stride: int) -> int:
        """Windows of an epoch."""
        return len(self.windows(stride))

    def windows(self, stride: int, rng: np.random.Generator | None = None) -> NDArray[np.int64]:
        """(windows, 2) first row and end of the video, `stride` apart, covering every row; `rng` draws the phases."""
        found = []
        for first, end in zip(self.table.starts[:-1], self.table.starts[1:], strict=True):
            last = max(first, end - self.length)
            phase = int(rng.integers(stride)) if rng is not None else 0
            begins = np.unique(np.append(np.arange(first - phase, last, stride), last).clip(first, last))
            found.append(np.stack([begins, np.full_like(begins, end)], axis=1))
        return np.concatenate(found)

    def batch(self, windows: NDArray[np.int64]) -> Batch:
        """The batch of some windows, (windows, 2) as `windows` gives them."""
        rows = windows[:, :1] + self._steps
        inside = rows < windows[:, 1:]
        rows = np.minimum(rows, windows[:, 1:] - 1)
        # numpy's take: torch's own gather splits so small a copy over threads that wait for each other
        features = {name: torch.from_numpy(values.take(rows, axis=0)) for name, values in self.table.values.items()}
        mask = self.table.present.take(rows) & inside
        valid = self.table.valid.take(rows, axis=0) & mask[..., None]
        labels = torch.from_numpy(self.table.labels.take(rows, axis=0))
        return Batch(features, torch.from_numpy(mask), labels, torch.from_numpy(valid))


def statistics(table: Table) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Mean and standard deviation (population) over the present rows of each feature, each (*shape) float64."""
    means, stds = {}, {}
    n_present = max(1, int(table.present.sum()))
    for name, values in table.values.items():
        total = torch.zeros(values.shape[1:], dtype=torch.float64)
        squares = torch.zeros_like(total)
        for start in range(0, len(values), STATISTICS_ROWS):
            rows = slice(start, start + STATISTICS_ROWS)
            part = torch.from_numpy(values[rows][table.present[rows]].astype(np.float64))
            total += part.sum(0)
            squares += part.square().sum(0)
        means[name] = total / n_present
        stds[name] = (squares / n_present - means[name].square()).clamp(min=0).sqrt()
    return means, stds
