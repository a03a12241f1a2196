"""Simulated clips with one label each, in the place of VGAF's: short, with features that are there in some frames."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from abaw.store import FeatureStore
from studies.world import label, new_store, put

N_FRAMES = 75  # of a clip
CLIPS = {"train": 160, "val": 60, "test": 150}
N_CLASSES = 3
Shown = Mapping[str, tuple[NDArray, NDArray[np.bool_]]]  # by feature (frames, WIDTH) values, and (frames,) bool: there


def store_clips(path: Path, features: Mapping[str, str], draw: Callable[[], tuple[int, Shown]]) -> FeatureStore:
    """A new store of clips.

    Args:
        features: modality by name.
        draw: gives the class of a new clip, and its features.
    """
    store = new_store(path, features)
    for split, count in CLIPS.items():
        for clip in (f"{split}-{number:03d}" for number in range(count)):
            kind, shown = draw()
            label(store, "vgaf", clip, split, np.array([[kind]]))
            for name, (values, present) in shown.items():
                put(store, name, clip, values, present)
    return store


def spoken(rng: np.random.Generator, share: float) -> NDArray[np.bool_]:
    """(frames,) bool, True in one stretch of a share of the clip, as somebody speaks."""
    length = round(share * N_FRAMES)
    start = int(rng.integers(N_FRAMES - length + 1))
    times = np.arange(N_FRAMES)
    return (times >= start) & (times < start + length)
