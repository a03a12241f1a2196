"""Features and labels of a split in contiguous arrays: what training and evaluation index into."""

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from torch import Tensor

from abaw.core.doubles import Doubles, joined
from abaw.core.errors import StoreError, UsageError, first_line
from abaw.core.read_ahead import map_ahead
from abaw.core.tasks import Task
from abaw.store import FeatureStore
from abaw.store.feature_store import VideoFeature, VideoLabels
from abaw.train.data.folds import assign_folds, parse_fold
from abaw.train.data.label_clocks import check_clocks

SYNTHETIC = "synthetic"  # the split of made clips: mixed into training, never evaluated
UNLABELLED = "test"  # the split of videos without labels
Missing = Literal["mask", "nearest"]


@dataclass(frozen=True)
class Table:
    """Videos of a split, one after another in every array: `Samples` whose inputs are all in memory.

    Attributes:
        task: what the labels are of.
        videos: names; video i has the rows `starts[i]` to `starts[i + 1]`.
        starts: (videos + 1,) int64.
        values: by feature, (rows, *shape) float16 or float32; zero where a frame lacks it.
        masks: by feature, (rows,) bool, the frame has it itself or, with `missing="nearest"`, from a neighbour.
        has_any: (rows,) bool, the frame has at least one feature itself, before any is filled in.
        has_crop: (rows,) bool, the frame has every visual feature itself (every feature, if none is visual).
        labels: (rows, columns) float32 as published, invalid values kept; a video's label is in all its rows.
        valid: (rows, columns) bool, the label is annotated.
        fps: (videos,) frames a second; 0 where the video has no feature.
        synthetic: (videos,) bool, a made clip.
        doubles: further labels of rows that have one, as their files list them twice; `rows` are those of the table.
    """

    task: Task
    videos: tuple[str, ...]
    starts: NDArray[np.int64]
    values: Mapping[str, NDArray]
    masks: Mapping[str, NDArray[np.bool_]]
    has_any: NDArray[np.bool_]
    has_crop: NDArray[np.bool_]
    labels: NDArray[np.float32]
    valid: NDArray[np.bool_]
    fps: NDArray[np.float64]
    synthetic: NDArray[np.bool_]
    doubles: Doubles | None = None

    def rows(self, video: int) -> slice:
        """Rows of video number `video`."""
        return slice(int(self.starts[video]), int(self.starts[video + 1]))

    def present(self) -> NDArray[np.bool_]:
        """(rows,) bool, at least one feature is in its mask."""
        return np.logical_or.reduce(list(self.masks.values()))

    def inputs(self, rows: NDArray[np.int64], inside: NDArray[np.bool_]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Inputs of windows, see `abaw.train.data.samples.Samples`."""
        # numpy's take: torch's own gather splits so small a copy over threads that wait for each other
        features = {name: torch.from_numpy(values.take(rows, axis=0)) for name, values in self.values.items()}
        return features, {name: torch.from_numpy(mask.take(rows) & inside) for name, mask in self.masks.items()}

    def doubles_of(self, video: int) -> Doubles | None:
        """The doubles of video number `video`, with rows of the video."""
        return self.doubles.between(int(self.starts[video]), int(self.starts[video + 1])) if self.doubles else None


def select_labels(
    store: FeatureStore, task: Task, split: str, fold: str = "", synthetic: bool = False
) -> dict[str, VideoLabels]:
    """Labels of the videos of a split.

    Args:
        fold: empty, or `K/N`: all labelled videos but the synthetic ones are dealt into N folds, of which number K is
            the split `val`, and all others are `train`.
        synthetic: add the videos of the synthetic split.

    Raises:
        UsageError: there are none; the message says what the store has.
    """
    labels = store.labels(task.name)
    for video, own in labels.items():
        _check_rows(store, task, video, own)
    made = {video: found for video, found in labels.items() if found.split == SYNTHETIC}
    real = {video: found for video, found in labels.items() if video not in made}
    if fold and real and split in ("train", "val"):
        chosen = parse_fold(fold)
        folds = assign_folds({video: len(found.rows) for video, found in real.items()}, chosen.of)
        found = {video: real[video] for video in real if (folds[video] == chosen.number) == (split == "val")}
    else:
        found = {video: labels[video] for video in labels if labels[video].split == split}
    if not found:
        raise UsageError(_no_labels(store, task, split))
    if synthetic and not made:
        raise UsageError(
            f"{store.path} has no synthetic {task.name} clips to mix in. Make some with `abaw synth` and run "
            "`abaw extract` again, or leave out --set synthetic=..."
        )
    return found | made if synthetic else found


def unlabelled(task: Task, n_rows: Mapping[str, int]) -> dict[str, VideoLabels]:
    """Labels for `load_table` of videos that have none: so many rows of invalid values for each video."""
    row = np.array(task.invalid_row, dtype=np.float32)
    return {video: VideoLabels(UNLABELLED, np.tile(row, (n, 1))) for video, n in n_rows.items()}


def _check_rows(store: FeatureStore, task: Task, video: str, found: VideoLabels) -> None:
    given = [found.rows] if found.doubles is None else [found.rows, found.doubles.labels]
    are_alike = all(rows.ndim == 2 and rows.shape[1] == len(task.columns) for rows in given)
    wrong = ""
    if not (are_alike and found.rows.dtype.kind in "fiub" and all(np.isfinite(rows).all() for rows in given)):
        wrong = f"no finite numbers in {len(task.columns)} columns"
    elif task.level == "video" and len(given) > 1:
        wrong = "more than one row"
    if wrong:
        raise StoreError(
            f"The {task.name} labels of video {video!r} are {wrong}. Delete "
            f"{store.path}/labels/{task.name}/{video} and run `abaw extract` again."
        )


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


def load_table(
    store: FeatureStore,
    task: Task,
    labels: Mapping[str, VideoLabels],
    features: Sequence[str],
    missing: Missing = "mask",
) -> Table:
    """Load labelled videos with their features, each read once, checksums verified.

    A video has as many rows as its labels or its features have, whichever are more; rows without the one are in no
    mask, rows without the other not valid. Labelled videos without any feature are kept, with empty masks. What
    would fill more than half of the free memory is kept in unnamed temporary files ($TMPDIR).

    Raises:
        UsageError: a feature that is not there, no labelled video has any of them, or rows are not on one clock.
        StoreError: a video is damaged, or holds a value that is not finite.
    """
    specs = {feature: store.feature_attrs(feature)["spec"] for feature in features}
    known = {feature: store.videos(feature) for feature in features}
    for feature in features:
        if not any(video in known[feature] for video in labels):
            splits = "/".join(sorted({found.split for found in labels.values()}))
            raise UsageError(
                f"None of the {len(labels)} {splits} videos with {task.name} labels has the feature {feature} in "
                f"{store.path}. Run `abaw extract` on the data folder that has their crops."
            )
    for video in labels:
        check_clocks(store, task, video, {name: videos[video] for name, videos in known.items() if video in videos})
    n_frames = {
        video: [int(known[feature][video]["n_frames"]) for feature in features if video in known[feature]]
        for video in labels
    }
    # a video's single label row is for all of its frames
    n_labels = {video: 1 if task.level == "video" else len(found.rows) for video, found in labels.items()}
    lengths = [max([n_labels[video], *n_frames[video]]) for video in labels]
    shapes = {feature: tuple(spec["shape"]) for feature, spec in specs.items()}
    wide = {feature for feature in features if any(v["dtype"] == "float32" for v in known[feature].values())}
    dtypes = {feature: np.dtype(np.float32 if feature in wide else np.float16) for feature in features}
    try:
        table = _empty_table(task, labels, lengths, shapes, dtypes)
    except (MemoryError, OSError, ValueError) as error:
        raise StoreError(
            f"There is no room for {sum(lengths):,} frames of {', '.join(features)} ({first_line(error)}). Make room in "
            "$TMPDIR, take fewer features, or look with `abaw store verify` for a video that claims too many frames."
        ) from error
    _fill(table, store, labels, specs, known, missing)
    return table


def _fill(
    table: Table,
    store: FeatureStore,
    labels: Mapping[str, VideoLabels],
    specs: Mapping[str, Mapping[str, Any]],
    known: Mapping[str, Mapping[str, Any]],
    missing: Missing,
) -> None:
    """Read labels and features of every video into its rows; `specs` and `known` videos are those of each feature."""
    visual = [feature for feature, spec in specs.items() if spec.get("modality") != "audio"] or list(specs)

    def read(video: str) -> dict[str, VideoFeature]:
        return {feature: store.read(feature, video) for feature in specs if video in known[feature]}

    videos = zip(labels.values(), map_ahead(read, labels, store.n_readers), strict=True)
    for i, (found, by_feature) in enumerate(videos):
        rows = table.rows(i)
        count = rows.stop - rows.start if table.task.level == "video" else len(found.rows)
        table.labels[rows][:count] = found.rows
        table.valid[rows][:count] = table.task.valid(found.rows)
        _place(table, i, by_feature, visual, missing)


def _place(table: Table, video: int, read: Mapping[str, VideoFeature], visual: Sequence[str], missing: Missing) -> None:
    """Put the features of a video into its rows."""
    rows = table.rows(video)
    table.has_crop[rows] = all(feature in read for feature in visual)
    for feature, found in read.items():
        n_frames = len(found.values)
        _check_finite(found, feature, table.videos[video])
        table.values[feature][rows][:n_frames] = found.values
        has = np.zeros(rows.stop - rows.start, dtype=np.bool_)
        has[:n_frames] = found.present
        table.has_any[rows] |= has
        if feature in visual:
            table.has_crop[rows] &= has
        if missing == "nearest" and has.any():
            table.values[feature][rows] = table.values[feature][rows][nearest_present(has)]
            has[:] = True
        table.masks[feature][rows] = has
        table.fps[video] = found.fps


def _check_finite(found: VideoFeature, feature: str, video: str) -> None:
    # numpy has no fast isfinite for float16, but the sum of a row is finite only if its values are
    with np.errstate(invalid="ignore"):  # of infinities that cancel
        sums = found.values.reshape(len(found.values), -1).sum(axis=1, dtype=np.float64)
    frames = np.flatnonzero(found.present & ~np.isfinite(sums)) + 1
    if len(frames):
        raise StoreError(
            f"Feature {feature!r} of video {video!r} is not finite at frame {frames[0]} ({len(frames)} such frames). "
            f"Make it again: delete features/{feature}/{video} in the store and run the same `abaw extract`."
        )


def nearest_present(present: NDArray[np.bool_]) -> NDArray[np.int64]:
    """For each row the nearest row that is present, the earlier one of two; (rows,) of which one at least is present."""
    places = np.flatnonzero(present)
    rows = np.arange(len(present))
    after = np.searchsorted(places, rows).clip(max=len(places) - 1)
    before = (after - 1).clip(min=0)
    is_before = np.abs(rows - places[before]) <= np.abs(places[after] - rows)
    return np.where(is_before, places[before], places[after])


def _empty_table(
    task: Task,
    labels: Mapping[str, VideoLabels],
    lengths: Sequence[int],
    shapes: Mapping[str, tuple[int, ...]],
    dtypes: Mapping[str, np.dtype],
) -> Table:
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    n_rows = int(starts[-1])
    values: dict[str, NDArray] = {}
    # counted down here: zeros take no memory before they are written over
    budget_bytes = psutil.virtual_memory().available // 2
    for feature, shape in shapes.items():
        values[feature] = allocate((n_rows, *shape), dtypes[feature], budget_bytes)
        if not isinstance(values[feature], np.memmap):
            budget_bytes -= values[feature].nbytes
    return Table(
        task=task,
        videos=tuple(labels),
        starts=starts,
        values=values,
        masks={feature: np.zeros(n_rows, dtype=np.bool_) for feature in shapes},
        has_any=np.zeros(n_rows, dtype=np.bool_),
        has_crop=np.zeros(n_rows, dtype=np.bool_),
        labels=np.tile(np.array(task.invalid_row, dtype=np.float32), (n_rows, 1)),
        valid=np.zeros((n_rows, len(task.columns)), dtype=np.bool_),
        fps=np.zeros(len(labels)),
        synthetic=np.array([found.split == SYNTHETIC for found in labels.values()]),
        doubles=joined([found.doubles for found in labels.values()], starts[:-1]),
    )


def allocate(shape: tuple[int, ...], dtype: np.dtype, budget_bytes: int) -> NDArray:
    """Zeros in memory, or in an unnamed temporary file where they are larger than the budget."""
    if math.prod(shape) * dtype.itemsize <= budget_bytes:
        return np.zeros(shape, dtype=dtype)
    # the file has no name: it goes with the process, however that ends
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, dtype=dtype, mode="w+", shape=shape)
