"""Tables of random features and labels, as large as wanted."""

import numpy as np

from abaw.core.files import Place
from abaw.core.tasks import Task
from abaw.store import FeatureStore
from abaw.train.data.table import Table

FEATURE = "random"


def random_table(task: Task, n_videos: int, n_frames: int, width: int) -> Table:
    """A table as `load_table` makes it: float16 features, all frames present, valence and arousal."""
    rng = np.random.default_rng(0)
    n_rows = n_videos * n_frames
    labels = rng.uniform(-1, 1, (n_rows, len(task.columns))).astype(np.float32)
    everywhere = np.ones(n_rows, dtype=np.bool_)
    return Table(
        task=task,
        videos=tuple(f"video-{number}" for number in range(n_videos)),
        starts=np.arange(n_videos + 1, dtype=np.int64) * n_frames,
        values={FEATURE: random_values(n_rows, width)},
        masks={FEATURE: everywhere},
        has_feature=everywhere,
        has_face=everywhere,
        labels=labels,
        valid=task.valid(labels),
        fps=np.full(n_videos, 30.0),
        synthetic=np.zeros(n_videos, dtype=np.bool_),
    )


def random_values(n_rows: int, width: int) -> np.ndarray:
    """(rows, width) float16 of a normal distribution."""
    rng = np.random.default_rng(1)
    values = np.empty((n_rows, width), dtype=np.float16)
    for start in range(0, n_rows, 4096):  # float64 of all of them would need much memory
        values[start : start + 4096] = rng.standard_normal(values[start : start + 4096].shape, dtype=np.float32)
    return values


def random_store(place: Place, n_videos: int, n_frames: int, width: int) -> FeatureStore:
    """A store of videos of random values, labelled for training with valence and arousal."""
    store = FeatureStore.create(place)
    store.add_feature(FEATURE, {"shape": [width], "weights": "none"}, None, "random")
    rows, values = np.arange(n_frames), random_values(n_frames, width).astype(np.float32)
    labels = np.random.default_rng(0).uniform(-1, 1, (n_frames, 2)).astype(np.float32)
    for number in range(n_videos):
        writer = store.writer(FEATURE, f"video-{number:05}", n_frames, rows, {"fps": 30.0, "source": "random"})
        writer.write(rows, np.roll(values, number, axis=0))
        writer.finish()
        store.write_labels("va", f"video-{number:05}", "train", labels)
    return store
