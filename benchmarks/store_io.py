"""The store: writing and reading videos, and drawing windows, against plain NumPy and one .npy per frame.

python -m benchmarks.store_io
"""

import itertools
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from abaw.core.tasks import get_task
from abaw.store import FeatureStore
from abaw.train.data.windows import WindowSampler
from benchmarks.measure import Report, Requirement, in_turns, median_ratio
from benchmarks.tables import FEATURE, random_table, random_values

N_FRAMES, WIDTH = 2000, 768
N_READ_VIDEOS = 20
N_WRITTEN_VIDEOS = 10  # in each round of the comparison with files per frame
N_TABLE_VIDEOS = 100
WINDOWS, WINDOW = 32, 100
RUNNER_ROWS = 32  # that the runner hands over at a time, on a CPU
ATTRS = {"fps": 30.0, "source": "random"}
METHOD = [
    f"A video is {N_FRAMES} frames x {WIDTH} values, stored as float16; files in the page cache, none flushed to disk.",
    f"The store's writer gets float32 as networks give it: the whole video at once, or {RUNNER_ROWS} frames at a time "
    "as in `abaw extract`. np.save and the files per frame get float16 that is ready.",
    f"Writing files per frame is measured over {N_WRITTEN_VIDEOS * N_FRAMES:,} new files a round, in turns with the "
    "store: what creating a file costs depends on the state of the file system far more than on the machine.",
    f"Windows: {WINDOWS} x {WINDOW} frames, drawn from {N_TABLE_VIDEOS * N_FRAMES:,} frames in memory; a batch of the "
    "store's side has labels, masks and validity too. Per frame: as many .npy files are loaded and stacked.",
]


class Layouts:
    """One video written in each layout, to a new place at every call."""

    def __init__(self, root: Path) -> None:
        self._root, self._numbers = root, itertools.count()
        self._float32 = random_values(N_FRAMES, WIDTH).astype(np.float32)
        self._float16 = self._float32.astype(np.float16)
        self._store = new_store(root / "written.zarr")

    def whole(self) -> None:
        """The store, all frames at once."""
        self._write(N_FRAMES)

    def in_batches(self) -> None:
        """The store, in the runner's batches."""
        self._write(RUNNER_ROWS)

    def _write(self, n_rows: int) -> None:
        rows = np.arange(N_FRAMES)
        writer = self._store.writer(FEATURE, f"video-{next(self._numbers)}", N_FRAMES, rows, ATTRS)
        for start in range(0, N_FRAMES, n_rows):
            writer.write(rows[start : start + n_rows], self._float32[start : start + n_rows])
        writer.finish()

    def numpy(self) -> None:
        """One .npy for the video."""
        np.save(self._root / f"whole-{next(self._numbers)}.npy", self._float16)

    def per_frame(self) -> None:
        """One .npy per frame."""
        folder = self._root / f"frames-{next(self._numbers)}"
        folder.mkdir()
        for frame, values in enumerate(self._float16):
            np.save(folder / f"{frame:05d}.npy", values)

    def a_frame_folder(self) -> Path:
        """Some folder that `per_frame` wrote."""
        return next(self._root.glob("frames-*"))


def new_store(path: Path) -> FeatureStore:
    """A store with the feature, without videos."""
    store = FeatureStore.create(path)
    store.add_feature(FEATURE, {"shape": [WIDTH], "weights": "none"}, None, "random")
    return store


def measure_writing(layouts: Layouts, report: Report) -> None:
    """One video in each layout."""
    actions: dict[str, Callable[[], object]] = {
        "store, whole": layouts.whole,
        "store, in batches": layouts.in_batches,
        "one .npy": layouts.numpy,
    }
    quick = in_turns(actions, rounds=21, n_warmups=2)
    actions = {
        "store, in batches": lambda: [layouts.in_batches() for _ in range(N_WRITTEN_VIDEOS)],
        "per frame": lambda: [layouts.per_frame() for _ in range(N_WRITTEN_VIDEOS)],
    }
    slow = in_turns(actions, rounds=3, n_warmups=0)
    against = median_ratio(slow["per frame"].wall_s, slow["store, in batches"].wall_s)
    for name, seconds in (("median", slow["per frame"].median_s), ("fastest", min(slow["per frame"].wall_s))):
        report.medians[f"writing a video, per frame, {name}, ms"] = 1000 * seconds / N_WRITTEN_VIDEOS
    report.requirements.append(Requirement("writing a video against one .npy per frame", against, 100))
    saved = quick["one .npy"].wall_s
    extra_ms = {
        name: 1000 * statistics.median(mine - 3 * npy for mine, npy in zip(quick[name].wall_s, saved, strict=True))
        for name in ("store, in batches", "store, whole")
    }
    text = "writing a video, beyond 3 x np.save"
    report.requirements.append(Requirement(text, extra_ms["store, in batches"], 15, "ms", at_least=False))
    report.medians["writing whole, beyond 3 x np.save, ms"] = extra_ms["store, whole"]
    for name, timing in quick.items():
        report.medians[f"writing a video, {name}, ms"] = 1000 * timing.median_s


def measure_reading(root: Path, layouts: Layouts, report: Report) -> None:
    """Some videos of the store, against one .npy each; checksums are verified."""
    root.mkdir()
    store, values = new_store(root / "read.zarr"), random_values(N_FRAMES, WIDTH)
    rows, videos = np.arange(N_FRAMES), [f"video-{number}" for number in range(N_READ_VIDEOS)]
    for video in videos:
        writer = store.writer(FEATURE, video, N_FRAMES, rows, ATTRS)
        writer.write(rows, values)
        writer.finish()
        np.save(root / f"{video}.npy", values)
    files = sorted(layouts.a_frame_folder().iterdir())
    timings = in_turns(
        {
            "store": lambda: [store.read(FEATURE, video) for video in videos],
            "one .npy": lambda: [np.load(root / f"{video}.npy") for video in videos],
            "per frame": lambda: np.stack([np.load(file) for file in files]),
        },
        rounds=7,
    )
    n_videos = {"store": N_READ_VIDEOS, "one .npy": N_READ_VIDEOS, "per frame": 1}
    for name, timing in timings.items():
        report.medians[f"reading a video, {name}, ms"] = 1000 * timing.median_s / n_videos[name]
    report.ratios["time to read a video against np.load"] = median_ratio(
        timings["store"].wall_s, timings["one .npy"].wall_s
    )


def measure_windows(layouts: Layouts, report: Report) -> None:
    """A batch of windows, against the plain gather and against files per frame."""
    table = random_table(get_task("va"), N_TABLE_VIDEOS, N_FRAMES, WIDTH)
    sampler, rng = WindowSampler(table, WINDOW), np.random.default_rng(0)
    values = table.values[FEATURE]
    windows = sampler.windows(WINDOW // 2)
    files = sorted(layouts.a_frame_folder().iterdir())

    def drawn() -> NDArray[np.int64]:
        return windows[rng.integers(len(windows), size=WINDOWS)]

    def gather() -> NDArray:
        return values[drawn()[:, :1] + np.arange(WINDOW)]

    def from_files() -> NDArray:
        starts = rng.integers(N_FRAMES - WINDOW, size=WINDOWS)
        return np.stack([[np.load(files[start + step]) for step in range(WINDOW)] for start in starts.tolist()])

    assert gather().shape == from_files().shape == (WINDOWS, WINDOW, WIDTH)
    actions: dict[str, Callable[[], object]] = {"store": lambda: sampler.batch(drawn()), "gather": gather}
    quick = in_turns(actions, rounds=51, n_warmups=5, repeats=10)
    slow = in_turns({"store": lambda: sampler.batch(drawn()), "per frame": from_files}, rounds=11)
    time_ratio = median_ratio(quick["store"].wall_s, quick["gather"].wall_s)
    text = "time to draw a batch of windows against the plain gather"
    report.requirements.append(Requirement(text, time_ratio, 1.5, at_least=False))
    against = slow["per frame"].median_s / quick["store"].median_s
    report.requirements.append(Requirement("drawing a batch of windows against files per frame", against, 100))
    for name, timing in {**quick, "per frame": slow["per frame"]}.items():
        report.medians[f"a batch of windows, {name}, ms"] = 1000 * timing.median_s


def main() -> None:
    """Measure and print."""
    report = Report("store_io", METHOD)
    with tempfile.TemporaryDirectory() as folder:
        layouts = Layouts(Path(folder) / "written")
        measure_writing(layouts, report)
        measure_reading(Path(folder) / "read", layouts, report)
        measure_windows(layouts, report)
    report.publish()


if __name__ == "__main__":
    main()
