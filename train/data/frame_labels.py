"""Labels of the frames of clips: a task of whole clips that has them trains its outputs of frames, too."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from abaw.core.clock import SAMPLED
from abaw.core.errors import StoreError, UsageError, did_you_mean
from abaw.core.tasks import TASKS, Task
from abaw.datasets.labels import fits
from abaw.store import FeatureStore
from abaw.train.data.feature_clocks import rows_in_time
from abaw.train.data.on_device import send


@dataclass(frozen=True)
class FrameLabels:
    """Labels of the rows of samples.

    Attributes:
        labels: (rows, columns) float32, any number where not annotated.
        valid: (rows, columns) bool, annotated.
    """

    labels: NDArray[np.float32]
    valid: NDArray[np.bool_]

    def at(self, rows: NDArray[np.int64], counted: NDArray[np.bool_]) -> "FrameTargets":
        """Targets of windows.

        Args:
            rows: (windows, time) row numbers.
            counted: (windows, time) bool, the frame is inside its window and has a feature.
        """
        valid = self.valid.take(rows, axis=0) & counted[..., None]
        return FrameTargets(torch.from_numpy(self.labels.take(rows, axis=0)), torch.from_numpy(valid))


@dataclass(frozen=True)
class FrameTargets:
    """The labels that outputs of the frames of clips are compared with.

    Attributes:
        labels: (windows, time, columns) float32.
        valid: bool like the labels: annotated, and the frame has a feature.
        weights: (windows, time) float32 of the frames in the loss; None if all count alike.
    """

    labels: Tensor
    valid: Tensor
    weights: Tensor | None = None

    def to(self, device: torch.device) -> "FrameTargets":
        """The same on a device."""
        weights = None if self.weights is None else send(self.weights, device)
        return FrameTargets(send(self.labels, device), send(self.valid, device), weights)


def read_frame_labels(
    store: FeatureStore,
    task: Task,
    name: str,
    features: Iterable[str],
    videos: Sequence[str],
    starts: NDArray[np.int64],
) -> FrameLabels:
    """The labels of frames in a store, in the rows of a table. Frames of videos without any are not annotated.

    Where the rows of a table are spread over a clip, each has the label of the frame at its time.

    Args:
        task: of whole clips.
        name: of the labels of frames in the store.
        features: of the table.
        videos, starts: see `abaw.train.data.samples.Samples`.

    Raises:
        UsageError: the store has no such labels, or they are of other outputs.
        StoreError: the labels of a video are damaged.
    """
    whole = task.selected_from or task
    of_frames = _task_of_frames(store, whole, name)
    columns = list(task.taken) or list(range(len(task.columns)))
    labels = np.zeros((int(starts[-1]), len(columns)), dtype=np.float32)
    valid = np.zeros(labels.shape, dtype=np.bool_)
    stored, known = store.labels(name), [store.videos(feature) for feature in features]
    for number, video in enumerate(videos):
        if video not in stored:
            continue
        rows = stored[video].rows
        if rows.ndim != 2 or rows.shape[1] != len(whole.columns) or not fits(rows, of_frames).all():
            raise StoreError(
                f"The {name} labels of video {video!r} are not rows of {', '.join(whole.columns)} as in task {whole.name}. "
                f"Delete {store.path}/labels/{name}/{video} and run `abaw extract` again."
            )
        start, end = int(starts[number]), int(starts[number + 1])
        if len(rows) and _is_spread([of_all[video] for of_all in known if video in of_all], end - start):
            rows = rows[rows_in_time(len(rows), end - start)]
        end = min(end, start + len(rows))
        labels[start:end] = rows[: end - start, columns]
        valid[start:end] = of_frames.valid(rows)[: end - start, columns]
    return FrameLabels(labels, valid)


def _is_spread(attributes: Iterable[Mapping[str, Any]], n_rows: int) -> bool:
    """True if the rows of a video in a table are spread over a clip; `attributes` are those of its features."""
    marks = [bool(attrs.get(SAMPLED)) for attrs in attributes if int(attrs["n_frames"]) == n_rows]
    return bool(marks) and all(marks)


def _task_of_frames(store: FeatureStore, task: Task, name: str) -> Task:
    """The task of the labels of frames called `name`; one that this process does not know has the columns of `task`."""
    if name not in store.tasks():
        near = did_you_mean(name, store.tasks())
        raise UsageError(
            f"{store.path} has labels of {', '.join(store.tasks())}, but not of {name}. {near}Run `abaw extract` where the data "
            "have labels of frames, or leave out --set frame_labels=..."
        )
    if name not in TASKS:
        return replace(task, level="frame")
    of_frames = TASKS[name]
    if (of_frames.level, of_frames.kind, of_frames.outputs) != ("frame", task.kind, task.outputs):
        raise UsageError(
            f"Task {task.name} has the outputs {', '.join(task.outputs)}, which frame_labels={name} does not label frame by "
            "frame. Choose a task of frames with the same outputs, or leave out --set frame_labels=..."
        )
    return of_frames
