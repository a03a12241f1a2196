"""Extraction on a local dask cluster: speed, cost of a video, start, memory, and figures to extrapolate from.

python -m benchmarks.cluster
python -m benchmarks.cluster start --crops 2800
python -m benchmarks.cluster memory --frames 10000000
"""

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from abaw.datasets.layouts import open_dataset
from abaw.store import FeatureStore
from benchmarks import objects
from benchmarks.many import write_labels, write_videos
from benchmarks.measure import Report, Requirement, median_ratio, say
from benchmarks.nothing_family import NARROW, NOTHING
from benchmarks.watched import Case, Watched, bare_rate, watch

MODEL = "vit-tiny-mean"
SPEED_ROUNDS, BARE_S = 3, 4.0
BATCH_SIZE = 8  # small, for many reports of progress in a short time
N_FULL, FULL_FRAMES = 48, 32  # videos, and frames of each: whole batches, so that no worker computes for nothing
COST_ROUNDS, N_SHORT = 2, 400  # videos of one crop
N_START, N_UNDONE = 1000, 5  # videos of a plan, and those that the second run has to do
MEMORY_FRAMES = 2500  # of a video
HOUR_FRAMES = 108_000  # at 30 fps
N_VIDEOS, VIDEO_FRAMES = 4, 2800  # about as those of Aff-Wild2
LISTED = (100, 1000)  # videos of a store
LIMIT_MB = 100
METHOD = [
    "Each extraction is in a new process that calls `abaw.pipeline.extract`, clusters by a file with "
    '`kind = "local"` and `threads = 1`; nothing is bound to a core, workers decode in threads of their own as for any '
    "user. Crops are hard links of a few JPEG files, listed and read from the page cache: a cold disk takes longer.",
    f"Speed: {MODEL}, untrained, {N_FULL} videos of {FULL_FRAMES} crops of 112 pixels in batches of {BATCH_SIZE}, "
    f"{SPEED_ROUNDS} rounds in turns, medians. The steady rate counts from the first report after a quarter of the frames, when all workers are at "
    "work, to the last report; the whole command begins with the start of Python. Bare is the network's forward alone in "
    "one process and in two at once: more than its ratio this machine does not have.",
    f"Cost of a video: {N_SHORT} videos of one crop minus one video of {N_SHORT} crops, by video; a network that does "
    f"nothing, 768 values, median of {COST_ROUNDS} rounds.",
    f"Start: {N_START:,} videos, with labels of three tasks for 55 % of them, until the first frame is reported; two "
    f"workers, or one process. The second run lacks {N_UNDONE} videos. The parts are timed alone.",
    f"Memory: the peak (VmHWM) of the driver, which counts PyTorch and not its two workers; videos of {MEMORY_FRAMES} "
    "crops, all links to one folder, a network that does nothing, 48 values.",
    f"Store: float16 of 768 values, {HOUR_FRAMES:,} frames (one hour at 30 fps) as one video, and {N_VIDEOS} videos of "
    f"{VIDEO_FRAMES} frames; on disk is what the file system takes.",
    *objects.METHOD,
]


class StorePaths:
    """Paths for stores."""

    def __init__(self, root: Path) -> None:
        self._root, self._n = root, 0

    def new(self) -> str:
        """A path that was not returned before."""
        self._n += 1
        return str(self._root / f"store-{self._n}.zarr")


def measure_speed(root: Path, report: Report) -> None:
    """One worker against two, and against the network alone."""
    data, paths = write_videos(root, N_FULL, FULL_FRAMES, 112), StorePaths(root)
    seen: dict[int, list[Watched]] = {1: [], 2: []}
    for turn in range(SPEED_ROUNDS):
        for workers in (1, 2) if turn % 2 else (2, 1):
            seen[workers].append(watch(Case(str(data), paths.new(), MODEL, workers, BATCH_SIZE)))
            assert seen[workers][-1].n_frames == N_FULL * FULL_FRAMES
    bare = {n_processes: bare_rate(n_processes, MODEL, BATCH_SIZE, BARE_S) for n_processes in (1, 2)}
    rates = {workers: [each.frames_per_s for each in runs] for workers, runs in seen.items()}
    whole = {workers: [each.whole_s for each in runs] for workers, runs in seen.items()}
    ratio = median_ratio(rates[2], rates[1])
    report.requirements.append(Requirement(f"two workers against one, {MODEL}, steady", ratio, 1.8))
    report.ratios["two workers against one, whole command"] = median_ratio(whole[1], whole[2])
    report.ratios["two bare processes against one"] = bare[2] / bare[1]
    report.ratios["one worker against its bare network, steady"] = statistics.median(rates[1]) / bare[1]
    for workers, runs in seen.items():
        name = f"{MODEL}, {_workers(workers)}"
        _add(report, f"{name}, frames/s", rates[workers])
        _add(report, f"{name}, whole command, s", whole[workers])
        _add(report, f"{name}, until the first report, s", [each.ready_s + each.first_s for each in runs])
        _add(report, f"{name}, cores of the workers", [each.worker_cores for each in runs])
        _add(report, f"{name}, cores of the driver", [each.own_cores for each in runs])
    for n_processes, rate in bare.items():
        report.medians[f"{MODEL}, bare, processes: {n_processes}, frames/s"] = rate


def _workers(workers: int) -> str:
    return {0: "one process", 1: "one worker"}.get(workers, f"{workers} workers")


def _add(report: Report, name: str, values: Iterable[float]) -> None:
    report.medians[name] = statistics.median(values)


def measure_cost(root: Path, report: Report) -> None:
    """What a video costs in addition to its frames."""
    many, one = write_videos(root / "many", N_SHORT, 1, 16), write_videos(root / "one", 1, N_SHORT, 16)
    paths = StorePaths(root)
    for workers in (0, 1):
        costs_ms = []
        for _ in range(COST_ROUNDS):
            long, short = (watch(Case(str(data), paths.new(), NOTHING, workers)) for data in (many, one))
            assert (long.n_done, short.n_done) == (N_SHORT, 1) and long.n_frames == short.n_frames
            costs_ms.append(1000 * (long.total_s - short.total_s) / (N_SHORT - 1))
        text = f"cost of a video, {_workers(workers)}"
        report.medians[f"{text}, ms"] = statistics.median(costs_ms)
        report.requirements.append(Requirement(text, statistics.median(costs_ms), 20, "ms", at_least=False))


def measure_start(root: Path, report: Report, n_crops: int) -> None:
    """How soon the first frame of many videos is done, and what takes the time before it."""
    began = time.perf_counter()
    data, paths = write_videos(root, N_START, n_crops, 4), StorePaths(root)
    n_labels = write_labels(data, n_crops)
    report.medians["crops of a video of the start"] = n_crops
    say(f"Made {N_START * n_crops:,} crops in {time.perf_counter() - began:.0f} s.")
    runs = {("first run", 0): watch(Case(str(data), paths.new(), NARROW, 0, until_first=True))}
    store = paths.new()
    runs["first run", 2] = watch(Case(str(data), store, NARROW, 2))
    assert runs["first run", 2].n_done == N_START
    say(f"First run: first frame after {runs['first run', 2].first_s:.1f} s.")
    for workers in (2, 0):
        _drop_some(Path(store))
        runs["second run", workers] = watched = watch(Case(str(data), store, NARROW, workers))
        say(f"Second run, {_workers(workers)}: first frame after {watched.first_s:.1f} s.")
        assert (watched.n_done, watched.n_skipped) == (N_UNDONE, N_START - N_UNDONE), watched
    for (run, workers), watched in runs.items():
        name = f"{N_START:,} videos of {n_crops:,} crops, {run}, {_workers(workers)}"
        if workers:
            text = f"{name}, first frame after"
            report.requirements.append(Requirement(text, watched.first_s, 10, "s", at_least=False))
        else:
            report.medians[f"{name}, first frame after, s"] = watched.first_s
        report.medians[f"{name}, planned after, s"] = watched.plan_s
        report.medians[f"{name}, driver, MB"] = watched.peak_mb
    report.medians["frames/s of a network that does nothing, 2 workers"] = runs["first run", 2].frames_per_s
    _measure_parts(data, root, Path(store), n_labels, report)


def _drop_some(path: Path) -> None:
    store = FeatureStore.create(path)
    for video in list(store.videos(NARROW))[:: N_START // N_UNDONE][:N_UNDONE]:
        store.drop(f"features/{NARROW}/{video}")


def _measure_parts(data: Path, root: Path, store: Path, n_labels: int, report: Report) -> None:
    results: dict[str, Any] = {}

    def measure(part: str, action: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        results[part] = action()
        report.medians[f"part: {part}, s"] = time.perf_counter() - began
        return results[part]

    dataset = measure("finding videos and labels", lambda: open_dataset(data))
    assert (len(dataset.videos), len(dataset.labels)) == (N_START, n_labels)
    measure("listing all crops once", lambda: [len(dataset.open(video).rows) for video in dataset.videos])
    rows = measure(f"reading {n_labels:,} label files", lambda: [label.read() for label in dataset.labels])
    new = FeatureStore.create(root / "labels.zarr")
    for part in ("new", "there before"):
        measure(
            f"writing {n_labels:,} labels, {part}",
            lambda: [
                new.write_labels(label.task, label.video, label.split, mine)
                for label, mine in zip(dataset.labels, rows, strict=True)
            ],
        )
    opened = FeatureStore.open(store)
    measure(f"list of {N_START:,} complete videos in the store", lambda: opened.videos(NARROW))


def measure_memory(root: Path, report: Report, most_frames: int) -> None:
    """The driver's peak as the number of frames grows."""
    paths, peaks_mb = StorePaths(root), {}
    for n_frames in (10**power for power in range(4, 1 + round(math.log10(most_frames)))):
        n_videos = n_frames // MEMORY_FRAMES
        data = write_videos(root / str(n_frames), n_videos, MEMORY_FRAMES, 4, shared=True)
        watched = watch(Case(str(data), paths.new(), NARROW, 2))
        assert (watched.n_done, watched.n_frames) == (n_videos, n_frames)
        peaks_mb[n_frames] = watched.peak_mb
        report.medians[f"driver, {n_frames:,} frames of {n_videos:,} videos, MB"] = watched.peak_mb
        report.medians[f"driver, {n_frames:,} frames of {n_videos:,} videos, MB before it began"] = watched.began_mb
        report.medians[f"driver, {n_frames:,} frames of {n_videos:,} videos, whole command, s"] = watched.whole_s
        say(f"{n_frames:,} frames: {watched.peak_mb:.0f} MB in {watched.whole_s:.0f} s.")
    low, high = min(peaks_mb), max(peaks_mb)
    text = f"driver's peak memory for {high:,} frames over {low:,}"
    report.requirements.append(Requirement(text, peaks_mb[high] - peaks_mb[low], LIMIT_MB, "MB", at_least=False))


def measure_store(root: Path, report: Report) -> None:
    """Bytes, files and requests, by video and by hour."""
    paths = StorePaths(root)
    for name, n_videos, n_frames in (("one video", 1, HOUR_FRAMES), ("short videos", N_VIDEOS, VIDEO_FRAMES)):
        data, store = write_videos(root / name, n_videos, n_frames, 16, shared=True), paths.new()
        assert watch(Case(str(data), store, NOTHING)).n_done == n_videos
        files = [path for path in (Path(store) / "features" / NOTHING).glob("*/**/*") if path.is_file()]
        sizes, hours = [path.stat() for path in files], n_videos * n_frames / HOUR_FRAMES
        n_bytes = sum(size.st_size for size in sizes)
        report.medians[f"an hour in {name} of {n_frames:,} frames, files"] = len(files) / hours
        report.medians[f"an hour in {name} of {n_frames:,} frames, MB"] = n_bytes / hours / 1e6
        on_disk = sum(size.st_blocks for size in sizes) * 512
        report.medians[f"an hour in {name} of {n_frames:,} frames, MB on disk"] = on_disk / hours / 1e6
        report.medians[f"a video of {n_frames:,} frames, files"] = len(files) / n_videos
        report.medians[f"a video of {n_frames:,} frames, bytes beside its values"] = (
            n_bytes / n_videos - n_frames * 1536
        )
    for n_videos in LISTED:
        opened = FeatureStore.create(paths.new())
        opened.add_feature("f", {"shape": [8], "weights": "none"}, None, "none")
        for number in range(n_videos):
            writer = opened.writer("f", f"{number:05}", 1, np.arange(1), {"fps": 30.0, "source": "0" * 64})
            writer.write(np.arange(1), np.zeros((1, 8), dtype=np.float32))
            writer.finish()
        began = time.perf_counter()
        assert len(opened.videos("f")) == n_videos
        report.medians[f"list of complete videos, {n_videos:,} of them, ms"] = 1000 * (time.perf_counter() - began)
    objects.count_requests(root / "objects", report)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster", description=(__doc__ or "").splitlines()[0])
    parts = ("speed", "cost", "start", "memory", "store")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"only these, of {', '.join(parts)}")
    parser.add_argument("--crops", type=int, default=300, help="of each video of the start; 2800 is Aff-Wild2")
    parser.add_argument("--frames", type=int, default=1_000_000, help="the most for the memory, a power of ten")
    arguments = parser.parse_args()
    unknown = [part for part in arguments.parts if part not in parts]
    if unknown:
        parser.error(f"unknown part {unknown[0]!r}; choose of: {', '.join(parts)}")
    report = Report("cluster", METHOD)
    measures: dict[str, Callable[[Path], None]] = {
        "speed": lambda root: measure_speed(root, report),
        "cost": lambda root: measure_cost(root, report),
        "start": lambda root: measure_start(root, report, arguments.crops),
        "memory": lambda root: measure_memory(root, report, arguments.frames),
        "store": lambda root: measure_store(root, report),
    }
    for part in arguments.parts or parts:
        began = time.perf_counter()
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            measures[part](Path(folder))
        say(f"{part} took {time.perf_counter() - began:.0f} s.")
    report.publish()


if __name__ == "__main__":
    main()
