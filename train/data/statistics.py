"""Mean and standard deviation of features, straight from the store, by threads that each read one video at a time."""

from collections.abc import Sequence
from dataclasses import dataclass

import dask
import numpy as np
import torch
from dask.delayed import Delayed
from numpy.typing import NDArray
from torch import Tensor

from abaw.core.errors import StoreError
from abaw.store import FeatureStore
from abaw.store.feature_store import VideoFeature

BLOCK_BYTES = 2**21  # of float64 values at a time, so that they stay in a core's cache


@dataclass(frozen=True)
class Moments:
    """Number of rows, their mean and the sum of their squared distances from it, (*shape) float64 each."""

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


def feature_statistics(
    store: FeatureStore, features: Sequence[str], videos: Sequence[str]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Mean and standard deviation (population) of each feature over its present rows in some videos.

    In memory are as many videos of one feature as the machine has cores, and two numbers of each value for every
    video that awaits merging.

    Args:
        videos: names; one that lacks a feature is passed over for it.

    Returns:
        Means and standard deviations by feature, (*shape) float64 each; zeros where no row is present.

    Raises:
        UsageError: a feature that is not in the store.
        StoreError: a video is damaged, or has values that are not finite.
    """
    trees = []
    for feature in features:
        shape = tuple(store.feature_attrs(feature)["spec"]["shape"])
        known = store.videos(feature)
        nothing = Moments(0, np.zeros(shape), np.zeros(shape))
        read = dask.delayed(_video_moments, pure=False)
        trees.append(_merge_tree([read(store, feature, video) for video in videos if video in known], nothing))
    # threads: Zarr and numpy let go of the interpreter's lock, and nothing has to be copied between processes
    found = dict(zip(features, dask.compute(*trees, scheduler="threads"), strict=True))
    means = {feature: torch.from_numpy(moments.mean) for feature, moments in found.items()}
    stds = {
        feature: torch.from_numpy(np.sqrt(moments.squares / max(1, moments.n_rows)))
        for feature, moments in found.items()
    }
    return means, stds


def _merge_tree(leaves: list[Delayed], nothing: Moments) -> Delayed:
    """Pairs are merged, then pairs of these, always in the same order: the same store gives the same bits."""
    merge = dask.delayed(Moments.merge, pure=False)
    while len(leaves) > 1:
        pairs = [leaves[start : start + 2] for start in range(0, len(leaves), 2)]
        leaves = [merge(*pair) if len(pair) == 2 else pair[0] for pair in pairs]
    return leaves[0] if leaves else dask.delayed(nothing, pure=False)


def _video_moments(store: FeatureStore, feature: str, video: str) -> Moments:
    """Moments of the present rows of one video."""
    read = store.read(feature, video)
    rows = np.flatnonzero(read.present)
    shape = read.values.shape[1:]
    found = Moments(0, np.zeros(shape), np.zeros(shape))
    step = max(1, BLOCK_BYTES // (8 * max(1, int(np.prod(shape)))))
    for start in range(0, len(rows), step):
        block = read.values[rows[start : start + step]].astype(np.float64)
        with np.errstate(invalid="ignore"):  # differences of infinities: told below
            # from the first row, so that a value that never varies has no deviation at all, however large it is
            first = block[0].copy()
            block -= first
            shift = block.mean(axis=0)
        if not np.isfinite(shift).all():
            raise StoreError(_not_finite(store, feature, video, read))
        block -= shift
        found = found.merge(Moments(len(block), first + shift, np.square(block, out=block).sum(axis=0)))
    return found


def _not_finite(store: FeatureStore, feature: str, video: str, read: VideoFeature) -> str:
    finite = np.isfinite(read.values.reshape(len(read.values), -1)).all(axis=1)
    row = int(np.flatnonzero(read.present & ~finite)[0])
    return (
        f"Feature {feature!r} of video {video!r} has a value that is not finite in frame {row + 1}. Run `abaw store "
        f"verify {store.path}` to see what else is damaged, delete {store.path}/features/{feature}/{video} and extract "
        "or import it again."
    )
