"""A feature of many videos as one dask array, for what does not fit into memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from abaw.core.errors import StoreError

if TYPE_CHECKING:
    from dask.array import Array

    from abaw.store import FeatureStore

Piece = tuple[str, int, int]  # a video, and its rows from one to before another


@dataclass(frozen=True)
class DaskFeature:
    """A feature of all complete videos of a store, one after another.

    Attributes:
        values: (rows, *shape) float16 or float32, a chunk for some videos or for a part of a long one; zero where not present.
        present: (rows,) bool, in the same chunks.
        videos: names; video i has the rows `starts[i]` to `starts[i + 1]`.
        starts: (videos + 1,) int64.
    """

    values: "Array"
    present: "Array"
    videos: tuple[str, ...]
    starts: NDArray[np.int64]


def dask_feature(store: "FeatureStore", feature: str, chunk_bytes: int) -> DaskFeature:
    """A feature as dask arrays, whose chunks are read when they are computed; see `FeatureStore.to_dask`."""
    from dask import array, delayed

    shape = tuple(store.feature_attrs(feature)["spec"]["shape"])
    videos = store.videos(feature)
    if not videos:
        raise StoreError(f"Feature {feature!r} in {store.path} has no complete video. Extract or import it first.")
    lengths = {name: int(attrs["n_frames"]) for name, attrs in videos.items()}
    dtypes = {attrs["dtype"] for attrs in videos.values()}
    dtype = np.dtype("float32" if "float32" in dtypes else "float16")
    row_bytes = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
    values, present = [], []
    for pieces in _chunks(lengths, max(1, chunk_bytes // row_bytes)):
        n_rows = sum(stop - start for _, start, stop in pieces)
        chunk = delayed(_read_values)(store, feature, pieces, shape, dtype)
        values.append(array.from_delayed(chunk, (n_rows, *shape), dtype))
        mask = delayed(_read_present)(store, feature, pieces)
        present.append(array.from_delayed(mask, (n_rows,), np.bool_))
    starts = np.concatenate([[0], np.cumsum(list(lengths.values()))]).astype(np.int64)
    return DaskFeature(array.concatenate(values), array.concatenate(present), tuple(lengths), starts)


def _chunks(lengths: Mapping[str, int], most_rows: int) -> list[list[Piece]]:
    """What is in each chunk: whole videos as far as they fit, or a part of one."""
    chunks, n_rows = [list[Piece]()], 0
    for name, length in lengths.items():
        for start in range(0, max(1, length), most_rows):
            stop = min(length, start + most_rows)
            if chunks[-1] and n_rows + stop - start > most_rows:
                chunks.append([])
                n_rows = 0
            chunks[-1].append((name, start, stop))
            n_rows += stop - start
    return chunks


def _read_values(
    store: "FeatureStore", feature: str, pieces: Sequence[Piece], shape: tuple[int, ...], dtype: np.dtype
) -> NDArray[Any]:
    values = np.empty((sum(stop - start for _, start, stop in pieces), *shape), dtype)
    n_rows = 0
    for video, start, stop in pieces:
        store.read_rows(feature, video, start, stop, values[n_rows : n_rows + stop - start])
        n_rows += stop - start
    return values


def _read_present(store: "FeatureStore", feature: str, pieces: Sequence[Piece]) -> NDArray[np.bool_]:
    return np.concatenate([store.read_present(feature, video)[start:stop] for video, start, stop in pieces])
