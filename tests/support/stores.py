"""Stores of a few features, written by hand."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import fsspec
import numpy as np

from abaw.store import FeatureStore


def new_store(
    path: Path, shapes: Mapping[str, tuple[int, ...]], audio: Iterable[str] = (), fingerprint: str = ""
) -> FeatureStore:
    """Make a store with features but no videos.

    Args:
        shapes: of one frame, by feature.
        audio: the features that come from sound.
        fingerprint: of all features; by default each has its own.
    """
    store = FeatureStore.create(path)
    for feature, shape in shapes.items():
        spec = {"shape": list(shape), "modality": "audio" if feature in audio else "vision", "weights": "none"}
        store.add_feature(feature, spec, None, fingerprint or f"fingerprint of {feature}")
    return store


def far_copy(store: FeatureStore, name: str) -> FeatureStore:
    """A copy of a local store where fsspec keeps files in memory, read as object storage is."""
    fsspec.filesystem("memory").put(store.path, f"/{name}", recursive=True)
    return FeatureStore.open(f"memory://{name}")


def put_feature(
    store: FeatureStore,
    feature: str,
    video: str,
    values: np.ndarray,
    present: Iterable[bool] | None = None,
    fps: float = 25.0,
    source: str = "test",
    quality: np.ndarray | None = None,
    **attrs: object,
) -> None:
    """Write a feature of a video.

    Args:
        values: (frames, *shape).
        present: (frames,): False where the frame has no feature; by default all have one.
        quality: (frames,) of the crops.
        attrs: further attributes of the video.
    """
    rows = np.arange(len(values)) if present is None else np.flatnonzero(np.array(list(present)))
    writer = store.writer(feature, video, len(values), rows, {"fps": fps, "source": source, **attrs})
    writer.write(rows, np.asarray(values)[rows].astype(np.float32))
    writer.finish(allow_empty=True, quality=quality)
