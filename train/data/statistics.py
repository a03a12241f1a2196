"""Mean and standard deviation of features, read from the store by threads, one video per thread at a time."""

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from shlex import quote

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from abaw.core.errors import StoreError
from abaw.core.finite import finite_rows
from abaw.core.read_ahead import map_ahead
from abaw.store import FeatureStore
from abaw.store.feature_store import VideoFeature
from abaw.store.in_turn import VideosInTurn

BLOCK_BYTES = 2**21  # of float64 values per block, to fit into a core's cache


@dataclass(frozen=True)
class Moments:
    """Number of rows, their mean and the sum of squared distances from it, (*shape) float64 each."""

    n_rows: int
    mean: NDArray[np.float64]
    squares: NDArray[np.float64]

    def merge(self, other: "Moments") -> "Moments":
        """The moments of both sets of rows together (Chan, Golub and LeVeque 1979, pairwise updating)."""
        n_rows = self.n_rows + other.n_rows
        if not n_rows:
            return self
        distance = other.mean - self.mean
        mean = self.mean + distance * (other.n_rows / n_rows)
        between = np.square(distance) * (self.n_rows * other.n_rows / n_rows)
        return Moments(n_rows, mean, self.squares + other.squares + between)


class MomentsOnLoading:
    """Moments of features, taken while a table is loaded, so that nothing is read twice; see `load_table`.

    Args:
        features: names; other features do not count.
    """

    def __init__(self, features: Sequence[str]) -> None:
        self._by_feature = {feature: _Merger() for feature in features}
        self._videos: dict[str, _VideoMoments] = {}

    def add(self, feature: str, stored: VideoFeature, is_last: bool = True) -> None:
        """Count the next frames of a video, whose values are finite.

        Args:
            is_last: they end the video.
        """
        if feature not in self._by_feature:
            return
        video = self._videos.setdefault(feature, _VideoMoments(stored.values.shape[1:]))
        video.add(stored)
        if is_last:
            self._by_feature[feature].add(video.take())

    def of(self, feature: str) -> Moments | None:
        """The moments of a feature over all videos; None if there is no video."""
        return self._by_feature[feature].merged()

    def __contains__(self, feature: str) -> bool:
        return feature in self._by_feature


def feature_statistics(
    store: FeatureStore,
    features: Sequence[str],
    videos: Sequence[str],
    n_threads: int | None = None,
    loaded: MomentsOnLoading | None = None,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Mean and standard deviation (population) of each feature over its present rows in some videos.

    Holds up to `n_threads` + 1 videos of one feature in memory, and two numbers per value for the few groups of videos
    that wait to be merged.

    Args:
        videos: names; videos without a feature are skipped for that feature.
        n_threads: threads that read; by default one per core.
        loaded: moments of the same videos for some of the features, which are not read again.

    Returns:
        Means and standard deviations by feature, (*shape) float64 each; zeros where no row is present.

    Raises:
        UsageError: a feature is not in the store.
        StoreError: a video is damaged, or has a value that is not finite.
    """
    shapes = {feature: tuple(store.feature_attrs(feature)["spec"]["shape"]) for feature in features}
    means, stds = {}, {}
    for feature, shape in shapes.items():
        if loaded is not None and feature in loaded:
            merged = loaded.of(feature)
        else:
            known = store.videos(feature)
            # threads: Zarr and numpy release the interpreter's lock, and nothing has to be copied between processes
            video_moments = map_ahead(
                partial(_video_moments, VideosInTurn(store, feature, videos)),
                [video for video in videos if video in known],
                n_threads or os.cpu_count() or 1,
            )
            merged = _merge_all(video_moments)
        moments = merged or Moments(0, np.zeros(shape), np.zeros(shape))
        means[feature] = torch.from_numpy(moments.mean)
        stds[feature] = torch.from_numpy(np.sqrt(moments.squares / max(1, moments.n_rows)))
    return means, stds


def frame_z_scores(values: Tensor) -> Tensor:
    """Each frame by the mean and (population) deviation of its own values; zeros for a frame of equal values.

    Args:
        values: (batch, time, *shape) float.
    """
    flat = values.flatten(2)
    centred = flat - flat.mean(dim=2, keepdim=True)
    deviation = centred.square().mean(dim=2, keepdim=True).sqrt()
    scaled = torch.where(deviation > 1e-6, centred / deviation.clamp(min=1e-6), 0.0)
    return scaled.unflatten(2, values.shape[2:])


def _merge_all(video_moments: Iterable[Moments]) -> Moments | None:
    """The moments of all videos; None if there is no video."""
    merger = _Merger()
    for moments in video_moments:
        merger.add(moments)
    return merger.merged()


class _Merger:
    """Merges the moments of videos: pairs of neighbours, then pairs of these pairs and so on.

    The order depends only on the number of videos, so that equal stores give bit-equal results.
    """

    def __init__(self) -> None:
        # number of videos, a power of two, smaller than the one before it
        self._waiting: list[tuple[int, Moments]] = []

    def add(self, moments: Moments) -> None:
        """The moments of the next video."""
        n_videos = 1
        while self._waiting and self._waiting[-1][0] == n_videos:
            moments = self._waiting.pop()[1].merge(moments)
            n_videos *= 2
        self._waiting.append((n_videos, moments))

    def merged(self) -> Moments | None:
        """The moments of all videos so far."""
        merged: Moments | None = None
        for _, moments in reversed(self._waiting):
            merged = moments if merged is None else moments.merge(merged)
        return merged


def _video_moments(turn: VideosInTurn, video: str) -> Moments:
    """Moments of the present rows of one video in a store."""
    stored = turn.read(video)
    of_video = _VideoMoments(stored.values.shape[1:])
    of_video.add(stored)
    moments = of_video.take()
    if not np.isfinite(moments.mean).all():
        raise StoreError(_not_finite(turn, video, stored))
    return moments


class _VideoMoments:
    """Moments of the present rows of one video after another; NaN or infinite where a value is not finite.

    Rows are counted in blocks of equal size, so that the result does not depend on the parts in which they arrive.

    Args:
        shape: of a row.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._block = np.empty((max(1, BLOCK_BYTES // (8 * max(1, math.prod(shape)))), *shape))
        self._n_rows = 0
        self._none = Moments(0, np.zeros(shape), np.zeros(shape))
        self._moments = self._none

    def add(self, stored: VideoFeature) -> None:
        """Count the next rows of the video."""
        rows = None if stored.present.all() else np.flatnonzero(stored.present)
        n_rows, start = len(stored.present) if rows is None else len(rows), 0
        while start < n_rows:
            stop = min(n_rows, start + len(self._block) - self._n_rows)
            part = stored.values[start:stop] if rows is None else stored.values[rows[start:stop]]
            into = self._block[self._n_rows : self._n_rows + len(part)]
            # torch converts float16 twice as fast as numpy
            torch.from_numpy(into).copy_(torch.from_numpy(part))
            self._n_rows, start = self._n_rows + len(part), stop
            if self._n_rows == len(self._block):
                self._count_block()

    def take(self) -> Moments:
        """The moments of the video; the next rows are of another."""
        self._count_block()
        moments, self._moments = self._moments, self._none
        return moments

    def _count_block(self) -> None:
        block, self._n_rows = self._block[: self._n_rows], 0
        if not len(block):
            return
        with np.errstate(invalid="ignore"):  # differences of infinities, which the caller reports
            # relative to the first row, so that a constant value has deviation 0, however large it is
            first = block[0].copy()
            block -= first
            shift = block.mean(axis=0)
            block -= shift
            squares = np.square(block, out=block).sum(axis=0)
            self._moments = self._moments.merge(Moments(len(block), first + shift, squares))


def _not_finite(turn: VideosInTurn, video: str, stored: VideoFeature) -> str:
    row = int(np.flatnonzero(stored.present & ~finite_rows(stored.values))[0])
    return (
        f"Feature {turn.feature!r} of video {video!r} has a value that is not finite in frame {row + 1}. Run `abaw store "
        f"repair {quote(turn.store.path)}`, which also drops what else is damaged, and extract or import it again."
    )
