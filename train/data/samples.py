"""The source of training windows: labelled rows of videos, however their inputs are stored."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from abaw.core.doubles import Doubles
from abaw.core.tasks import Task
from abaw.train.data.frame_labels import FrameLabels


class Samples(Protocol):
    """Labelled videos of a split. Their frames are rows, one video after another.

    `abaw.train.data.table.Table` keeps the inputs of all rows in memory. Another implementation may compute them on
    demand. Equal rows must always give equal inputs, in every process: resumed runs and training in several processes
    depend on it.
    """

    @property
    def n_readers(self) -> int:
        """Threads that read batches ahead of their use; 1 reads each when it is needed."""
        ...

    @property
    def rows_per_batch(self) -> int:
        """Rows in a batch of a prediction."""
        ...

    @property
    def task(self) -> Task:
        """The task that the labels belong to."""
        ...

    @property
    def videos(self) -> tuple[str, ...]:
        """Names; video i has the rows `starts[i]` to `starts[i + 1]`."""
        ...

    @property
    def starts(self) -> NDArray[np.int64]:
        """(videos + 1,) int64."""
        ...

    @property
    def labels(self) -> NDArray[np.float32]:
        """(rows, columns) float32 as published, invalid values included; the label of a whole video is in all its rows."""
        ...

    @property
    def valid(self) -> NDArray[np.bool_]:
        """(rows, columns) bool, the label is annotated."""
        ...

    @property
    def synthetic(self) -> NDArray[np.bool_]:
        """(videos,) bool, the video is a synthetic clip."""
        ...

    @property
    def doubles(self) -> Doubles | None:
        """Further labels of rows that have more than one."""
        ...

    @property
    def shares(self) -> NDArray[np.float32] | None:
        """(rows, classes) float32, soft labels for the loss of a task of classes; None where classes are certain."""
        ...

    @property
    def frame_labels(self) -> FrameLabels | None:
        """Labels of rows for a task of whole videos, whose outputs of frames they train, too; None without."""
        ...

    @property
    def weights(self) -> NDArray[np.float32] | None:
        """(rows,) weight of each row in a loss over rows; None if all count alike."""
        ...

    def present(self) -> NDArray[np.bool_]:
        """(rows,) bool, the row has at least one input; only labels of such rows count."""
        ...

    def inputs(self, rows: NDArray[np.int64], inside: NDArray[np.bool_]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Inputs of windows, in host memory or on the GPU.

        Args:
            rows: (windows, time) row numbers, from 0.
            inside: (windows, time) bool, the row belongs to its window; other rows are padding.

        Returns:
            By feature (windows, time, *shape) of any number type, and (windows, time) bool: the row is inside and has
            the feature. Values where it is False have no effect.
        """
        ...


class ScoredSamples(Samples, Protocol):
    """Samples of a split that is predicted and scored."""

    @property
    def has_feature(self) -> NDArray[np.bool_]:
        """(rows,) bool, the row has at least one input, before filling."""
        ...

    @property
    def has_face(self) -> NDArray[np.bool_]:
        """(rows,) bool, the row has every visual input, before filling."""
        ...

    @property
    def fps(self) -> NDArray[np.float64]:
        """(videos,) frames a second; 0 for a video without inputs."""
        ...

    @property
    def people(self) -> tuple[str, ...]:
        """Who is in each video; empty where unknown, or no texts at all."""
        ...

    def rows(self, video: int) -> slice:
        """Rows of video number `video`."""
        ...

    def doubles_of(self, video: int) -> Doubles | None:
        """The doubles of video number `video`, with rows relative to the video."""
        ...


def counted_labels(samples: Samples) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.bool_]]:
    """Labels of every row, then the doubles.

    Returns:
        (labels,) row of each; (labels, columns) float32; (labels, columns) bool: annotated, and the row has an input.
    """
    rows, labels, valid = np.arange(len(samples.labels)), samples.labels, samples.valid
    if samples.doubles is not None:
        rows = np.concatenate([rows, samples.doubles.rows])
        labels = np.concatenate([labels, samples.doubles.labels])
        valid = np.concatenate([valid, samples.task.valid(samples.doubles.labels)])
    return rows, labels, valid & samples.present()[rows, None]
