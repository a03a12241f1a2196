"""A share of the samples of a split, for validations between steps of large sets."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from abaw.core.doubles import Doubles
from abaw.core.tasks import Task
from abaw.train.data.samples import ScoredSamples, counted_labels
from abaw.train.data.windows import WindowSampler


@dataclass(frozen=True, eq=False)
class SomeRows:
    """Some rows of other samples: a `ScoredSamples`.

    Attributes:
        samples: the others.
        picked: (rows,) int64, their rows.
        videos, starts: see `Samples`; a video is a window, or all picked rows of a video.
        sources: (videos,) number of the video of the others that each is part of.
    """

    samples: ScoredSamples
    picked: NDArray[np.int64]
    videos: tuple[str, ...]
    starts: NDArray[np.int64]
    sources: NDArray[np.int64]

    frame_labels: ClassVar[None] = None  # of trainings alone
    weights: ClassVar[None] = None

    @property
    def task(self) -> Task:
        """See `Samples`."""
        return self.samples.task

    @property
    def n_readers(self) -> int:
        """See `Samples`."""
        return self.samples.n_readers

    @property
    def rows_per_batch(self) -> int:
        """See `Samples`."""
        return self.samples.rows_per_batch

    @property
    def labels(self) -> NDArray[np.float32]:
        """See `Samples`."""
        return self.samples.labels[self.picked]

    @property
    def valid(self) -> NDArray[np.bool_]:
        """See `Samples`."""
        return self.samples.valid[self.picked]

    @property
    def synthetic(self) -> NDArray[np.bool_]:
        """See `Samples`."""
        return self.samples.synthetic[self.sources]

    @property
    def doubles(self) -> Doubles | None:
        """See `Samples`."""
        doubles = self.samples.doubles
        if doubles is None:
            return None
        first, end = (np.searchsorted(doubles.rows, self.picked, side=side) for side in ("left", "right"))
        counts = end - first
        rows = np.repeat(np.arange(len(self.picked)), counts)
        within = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        return Doubles(rows, doubles.labels[np.repeat(first, counts) + within]) if len(rows) else None

    @property
    def shares(self) -> NDArray[np.float32] | None:
        """See `Samples`."""
        shares = self.samples.shares
        return None if shares is None else shares[self.picked]

    @property
    def has_feature(self) -> NDArray[np.bool_]:
        """See `ScoredSamples`."""
        return self.samples.has_feature[self.picked]

    @property
    def has_face(self) -> NDArray[np.bool_]:
        """See `ScoredSamples`."""
        return self.samples.has_face[self.picked]

    @property
    def fps(self) -> NDArray[np.float64]:
        """See `ScoredSamples`."""
        return self.samples.fps[self.sources]

    @property
    def people(self) -> tuple[str, ...]:
        """See `ScoredSamples`."""
        people = self.samples.people
        return tuple(people[source] for source in self.sources) if people else ()

    def rows(self, video: int) -> slice:
        """See `ScoredSamples`."""
        return slice(int(self.starts[video]), int(self.starts[video + 1]))

    def doubles_of(self, video: int) -> Doubles | None:
        """See `ScoredSamples`."""
        doubles = self.doubles
        return doubles.between(int(self.starts[video]), int(self.starts[video + 1])) if doubles else None

    def present(self) -> NDArray[np.bool_]:
        """See `Samples`."""
        return self.samples.present()[self.picked]

    def inputs(self, rows: NDArray[np.int64], inside: NDArray[np.bool_]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """See `Samples`."""
        return self.samples.inputs(self.picked[rows], inside)


def draw_share(samples: ScoredSamples, length: int, share: float, seed: Sequence[int]) -> ScoredSamples:
    """A share of the windows that have a label, at least one; all samples for a share of 1.

    Windows of one frame stay with the others of their video, longer ones are a video each; of tasks of whole videos a share
    of the videos is drawn.

    Args:
        length: of a window.
        share: above 0.
        seed: same seed, same windows.
    """
    if share == 1:
        return samples
    rows, _, counted = counted_labels(samples)
    n_labels = np.bincount(rows, counted.any(axis=1), len(samples.labels))
    if samples.task.level == "video":
        windows = np.stack([samples.starts[:-1], samples.starts[1:]], axis=1)
    else:
        drawn = WindowSampler(samples, length).windows(length)
        windows = np.stack([drawn[:, 0], np.minimum(drawn[:, 0] + length, drawn[:, 1])], axis=1)
    total = np.concatenate([[0.0], np.cumsum(n_labels)])
    windows = windows[total[windows[:, 1]] > total[windows[:, 0]]]
    n_drawn = min(len(windows), max(1, round(share * len(windows))))
    chosen = np.random.default_rng(list(seed)).permutation(len(windows))[:n_drawn]
    return _rows_of(samples, windows[np.sort(chosen)], length)


def _rows_of(samples: ScoredSamples, windows: NDArray[np.int64], length: int) -> SomeRows:
    """The rows of windows, (windows, 2) first row and the row after the last."""
    picked = np.concatenate([np.arange(first, end) for first, end in windows] or [np.zeros(0, dtype=np.int64)])
    numbers = np.searchsorted(samples.starts, windows[:, 0], side="right") - 1
    if length == 1:
        sources, counts = np.unique(numbers, return_counts=True)
        names = [samples.videos[number] for number in sources]
    else:
        sources, counts = numbers, windows[:, 1] - windows[:, 0]
        first_rows = windows[:, 0] - samples.starts[numbers]
        names = [f"{samples.videos[number]}+{row}" for number, row in zip(numbers, first_rows, strict=True)]
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return SomeRows(samples, picked, tuple(names), starts, sources)
