"""Labelled videos whose inputs are the pixels of their frames, decoded when a batch needs them."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from abaw.core.doubles import Doubles, joined
from abaw.core.errors import DataError, UsageError, some_of
from abaw.core.progress import Reporter, Silent
from abaw.core.read_ahead import map_ahead
from abaw.core.tasks import Task
from abaw.datasets.dataset import Dataset
from abaw.datasets.frames import BrokenFrame, Frame, FrameSource
from abaw.datasets.layouts import open_dataset
from abaw.datasets.mtl import doubles_of
from abaw.datasets.named_people import people_notes
from abaw.store.label_arrays import VideoLabels
from abaw.train.data.folds import shared_people
from abaw.train.data.table import SYNTHETIC, fill_invalid, take_split
from abaw.train.finetune.finetune_config import MOST_SHOWN

IMAGES, SIZES = "images", "sizes"  # names of the inputs
BATCHES_AHEAD = 2
SHOWN_VIDEOS = 3


class RowImages(Protocol):
    """The images of some rows, such as a `FrameSource`."""

    @property
    def rows(self) -> NDArray[np.int64]:
        """(images,) the row of each within its video, ascending."""

    def read(self, start: int, stop: int) -> Iterator[Frame | BrokenFrame]:
        """Decode the images of `rows[start:stop]`, in order."""


@dataclass(eq=False)
class PixelTable:
    """Videos of a split, one after another: `abaw.train.data.samples.Samples` that reads images when they are asked for.

    The inputs are `images`, (windows, time, height, width, 3) uint8 RGB, as large as the largest image, and `sizes`,
    (windows, time, 2) int64: height and width of each image, which is in the upper left corner.

    Attributes:
        task, videos, starts, labels, valid, synthetic, doubles: see `Samples`.
        sources: of the frames of each video; None for a video without crops.
        has_feature: (rows,) bool, the row has an image that can be read, as far as is known.
        fps: (videos,) float64 frames a second; 0 for a video without crops.
        broken: sentences about images that could not be read.
        shares: see `Samples`.
        rows_per_batch: images in a batch of a prediction.
        people: who is in each video; empty where unknown.
    """

    task: Task
    videos: tuple[str, ...]
    starts: NDArray[np.int64]
    labels: NDArray[np.float32]
    valid: NDArray[np.bool_]
    synthetic: NDArray[np.bool_]
    sources: Sequence[RowImages | None]
    has_feature: NDArray[np.bool_]
    fps: NDArray[np.float64]
    doubles: Doubles | None = None
    broken: dict[int, str] = field(default_factory=dict)
    shares: NDArray[np.float32] | None = None
    rows_per_batch: int = MOST_SHOWN
    people: tuple[str, ...] = ()

    n_readers: ClassVar[int] = BATCHES_AHEAD
    frame_labels: ClassVar[None] = None
    weights: ClassVar[None] = None

    def __post_init__(self) -> None:
        self._pool = ThreadPoolExecutor(os.cpu_count() or 1)

    @property
    def has_face(self) -> NDArray[np.bool_]:
        """(rows,) bool, the row has a crop."""
        return self.has_feature

    def rows(self, video: int) -> slice:
        """Rows of video number `video`."""
        return slice(int(self.starts[video]), int(self.starts[video + 1]))

    def doubles_of(self, video: int) -> Doubles | None:
        """The doubles of video number `video`, with rows relative to the video."""
        return self.doubles.between(int(self.starts[video]), int(self.starts[video + 1])) if self.doubles else None

    def present(self) -> NDArray[np.bool_]:
        """(rows,) bool, the row has an image; rows whose image cannot be read leave it when that is found."""
        return self.has_feature

    def inputs(self, rows: NDArray[np.int64], inside: NDArray[np.bool_]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The images of windows, see `Samples` and the class; a row that occurs several times is decoded once."""
        wanted = np.unique(rows[inside & self.has_feature[rows]])
        images = dict(zip(wanted.tolist(), self._pool.map(self._read, wanted.tolist()), strict=True))
        readable = {row: image for row, image in images.items() if image is not None}
        height, width = (max([image.shape[axis] for image in readable.values()], default=1) for axis in range(2))
        pixels = np.zeros((*rows.shape, height, width, 3), dtype=np.uint8)
        sizes = np.zeros((*rows.shape, 2), dtype=np.int64)
        mask = np.zeros(rows.shape, dtype=np.bool_)
        for place in zip(*np.nonzero(inside), strict=True):
            image = readable.get(int(rows[place]))
            if image is not None:
                pixels[place][: image.shape[0], : image.shape[1]] = image
                sizes[place], mask[place] = image.shape[:2], True
        shown = torch.from_numpy(mask)
        return {IMAGES: torch.from_numpy(pixels), SIZES: torch.from_numpy(sizes)}, {IMAGES: shown, SIZES: shown}

    def _read(self, row: int) -> NDArray[np.uint8] | None:
        """The image of a row; None if it cannot be read."""
        video = int(np.searchsorted(self.starts, row, side="right")) - 1
        source = self.sources[video]
        assert source is not None, "rows without a source are not present"
        index = int(np.searchsorted(source.rows, row - self.starts[video]))
        frame = next(source.read(index, index + 1))
        if isinstance(frame, BrokenFrame):
            self.broken[row] = frame.reason
            self.has_feature[row] = False
            return None
        return frame.image


def load_pixel_tables(
    task: Task,
    fold: str,
    data: Path,
    splits: Sequence[str],
    reporter: Reporter | None = None,
    invalid_as: str = "",
) -> list[PixelTable]:
    """The labelled videos of a data folder, a table for each split; labels are read, images are only listed.

    Args:
        fold: empty, or `K/N`; see `abaw.train.data.table.select_labels`.
        invalid_as: class of the frames of `train` that are not annotated; empty leaves them out.

    Raises:
        UsageError: a split is empty, or none of its videos has crops.
        DataError: there is no data, or a label file is broken.
    """
    dataset = open_dataset(data)
    labels = _read_labels(dataset, task)
    if reporter is not None:
        shared = "" if fold else shared_people(labels, task, "val")
        notes = people_notes(dataset) if "train" in splits else []
        for sentence in filter(None, (*notes, shared)):
            reporter.warn(sentence)
    selected = {split: _in_split(labels, task, split, fold, data) for split in splits}
    if invalid_as and "train" in selected:
        selected["train"] = fill_invalid(task, selected["train"], task.outputs.index(invalid_as))
    return [_table(dataset, task, own, split, reporter) for split, own in selected.items()]


def _read_labels(dataset: Dataset, task: Task) -> dict[str, VideoLabels]:
    """All labels of a task by video."""
    stored = task.whole or task.name
    if task.level == "video":
        raise UsageError(
            f"Task {task.name} is of whole clips, whose encoders abaw does not fine-tune. Use `abaw train`."
        )
    files = [label for label in dataset.labels if label.task == stored]
    if not files:
        others = sorted({label.task for label in dataset.labels})
        has = f"has labels of {', '.join(others)}" if others else "has no labels"
        raise UsageError(
            f"{dataset.root} {has}, not of {stored}. Put its label folders there (`abaw doctor` shows them)."
        )
    names = [label.video for label in files]
    if twice := sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []:
        raise DataError(
            f"{dataset.root} has two {stored} label files for {some_of(twice, SHOWN_VIDEOS)}. Delete the wrong ones."
        )
    read = map_ahead(
        lambda label: VideoLabels(label.split, label.read(), doubles_of(label), dataset.person_of(label)),
        files,
        os.cpu_count() or 1,
    )
    return dict(zip(names, read, strict=True))


def _in_split(
    labels: Mapping[str, VideoLabels], task: Task, split: str, fold: str, data: Path
) -> dict[str, VideoLabels]:
    selected = take_split(labels, task, split, fold)
    if not selected:
        splits = sorted({one.split for one in labels.values()})
        raise UsageError(
            f"{data} has {task.name} labels of {', '.join(splits)}, but not of {split!r}. Add the label files of that split."
        )
    return selected


def _table(
    dataset: Dataset, task: Task, labels: Mapping[str, VideoLabels], split: str, reporter: Reporter | None
) -> PixelTable:
    videos = {video.name: video for video in dataset.videos}
    reporter = reporter or Silent()
    dataset.time_videos([videos[name] for name in labels if name in videos], reporter)
    reporter.start(f"list {split}", len(labels), "videos")
    listed = []
    opened = (dataset.open(videos[name]) if name in videos else None for name in labels)
    for source, fps, n_frames in map_ahead(_listed, opened, os.cpu_count() or 1):
        listed.append((source, fps, n_frames))
        reporter.advance()
    reporter.finish()
    lengths = [max(n_frames, len(one.rows)) for one, (_, _, n_frames) in zip(labels.values(), listed, strict=True)]
    return _joined(task, labels, listed, lengths, split, dataset.root)


def _listed(source: FrameSource | None) -> tuple[FrameSource | None, float, int]:
    """A source, its frame rate and its number of rows; None, 0 and 0 without crops."""
    if source is None or not len(source.rows):
        return None, 0.0, 0
    if not source.divisible:
        raise UsageError(f"{source.name} is a video file. Cut its faces out with `abaw prepare` first.")
    clock = source.clock()
    return source, clock.fps, clock.n_frames


def _joined(
    task: Task,
    labels: Mapping[str, VideoLabels],
    listed: Sequence[tuple[FrameSource | None, float, int]],
    lengths: Iterable[int],
    split: str,
    root: Path,
) -> PixelTable:
    starts = np.concatenate([[0], np.cumsum(list(lengths))]).astype(np.int64)
    rows = np.tile(np.array(task.invalid_row, dtype=np.float32), (int(starts[-1]), 1))
    valid, present = np.zeros(rows.shape, dtype=np.bool_), np.zeros(len(rows), dtype=np.bool_)
    for number, one in enumerate(labels.values()):
        place = slice(int(starts[number]), int(starts[number]) + len(one.rows))
        rows[place], valid[place] = one.rows, task.valid(one.rows)
        source = listed[number][0]
        if source is not None:
            present[starts[number] + source.rows] = True
    if not (valid.any(axis=1) & present).any():
        raise UsageError(
            f"None of the {len(labels)} {split} videos in {root} has a crop of a frame that is labelled. `abaw doctor` "
            "shows what is missing; `abaw prepare` cuts crops out of videos."
        )
    return PixelTable(
        task=task,
        videos=tuple(labels),
        starts=starts,
        labels=rows,
        valid=valid,
        synthetic=np.array([one.split == SYNTHETIC for one in labels.values()]),
        sources=[source for source, _, _ in listed],
        has_feature=present,
        fps=np.array([fps for _, fps, _ in listed]),
        doubles=joined([one.doubles for one in labels.values()], starts[:-1]),
        people=tuple(one.person for one in labels.values()),
    )
