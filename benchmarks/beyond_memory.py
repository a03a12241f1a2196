"""Training from a store that does not fit into memory: its speed against a table in memory, its memory, and object storage.

python -m benchmarks.beyond_memory
"""

import itertools
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import torch

from abaw.core.read_ahead import map_ahead
from abaw.core.tasks import get_task
from abaw.store import FeatureStore
from abaw.train.config import make_config
from abaw.train.data import table as table_module
from abaw.train.data.table import Table
from abaw.train.data.windows import WindowSampler, batches
from abaw.train.loop import Trainer
from abaw.train.model import Model
from abaw.train.new_run import load_split
from benchmarks.measure import Report, Requirement, in_turns, median_ratio, peak_kib
from benchmarks.objects import BUCKET, LATENCY_S, s3_server
from benchmarks.tables import FEATURE, random_store

WIDTH, N_FRAMES = 768, 2000
N_VIDEOS, N_FAR_VIDEOS = 60, 8
N_BATCHES, N_FAR_BATCHES = 50, 8
LIMIT_MB = 700  # of the processes whose memory is limited; PyTorch alone takes half of it
FLAT_MB = 150
CONFIG = make_config({"task": "va", "features": (FEATURE,), "head": {"name": "linear"}})
METHOD = [
    f"{N_VIDEOS} videos of {N_FRAMES:,} frames x {WIDTH} float16 in a local store, files in the page cache; the same frames as a "
    "table in memory and as one that stays in the store, in turns.",
    f"Windows alone: {N_BATCHES} batches of {CONFIG.batch_size} x {CONFIG.length} frames at random, one after another; from object "
    "storage read ahead as in training. Training: epochs of the lightest head (linear), which waits for data more than any.",
    f"S3: {N_FAR_VIDEOS} of these videos on a local S3 server (moto) that makes each request wait {1000 * LATENCY_S:.0f} ms, and "
    "shares the interpreter with the client: a real one answers more of them at once. Latency alone: files that fsspec keeps in "
    f"memory, with {1000 * LATENCY_S:.0f} ms before each batch of requests.",
    f"Memory: a process in a control group of {LIMIT_MB} MB (of `ulimit -d` where none can be made) trains an epoch and "
    "validates from a store as large as that, and from one three times as large; its highest resident memory.",
]


@contextmanager
def nothing_left() -> Iterator[None]:
    """Tables stay in the store."""
    before, table_module.free_memory = table_module.free_memory, lambda: 0  # type: ignore[assignment]
    folder = os.environ.pop("TMPDIR", None)
    try:
        yield
    finally:
        table_module.free_memory = before
        if folder is not None:
            os.environ["TMPDIR"] = folder


def load_both(store: FeatureStore) -> dict[str, Table]:
    """The training videos in memory and in the store."""
    in_memory = load_split(CONFIG, store, "train")
    with nothing_left():
        return {"memory": in_memory, "store": load_split(CONFIG, store, "train")}


def draw(table: Table, n_batches: int, n_readers: int = 1) -> Callable[[], None]:
    """Reads batches of random windows, other ones at each call; `n_readers` threads at once."""
    sampler, rng = WindowSampler(table, CONFIG.length), np.random.default_rng(0)
    windows = sampler.windows(CONFIG.step)

    def read() -> None:
        chosen = windows[rng.integers(len(windows), size=n_batches * CONFIG.batch_size)]
        for _ in map_ahead(sampler.batch, batches(chosen, CONFIG.batch_size), n_readers):
            pass

    return read


def train(table: Table) -> Callable[[], object]:
    """Trains an epoch at each call."""
    torch.manual_seed(0)
    task, numbers = get_task(CONFIG.task), itertools.count(1)
    trainer = Trainer(CONFIG, task, Model(CONFIG, task, {FEATURE: (WIDTH,)}), table, torch.device("cpu"))
    return lambda: trainer.run_epoch(next(numbers))


def measure_folder(store: FeatureStore, report: Report) -> None:
    """Windows and epochs of a local store."""
    tables = load_both(store)
    drawn = in_turns({name: draw(table, N_BATCHES) for name, table in tables.items()}, rounds=9)
    trained = in_turns({name: train(table) for name, table in tables.items()}, rounds=3)
    ratio = median_ratio(trained["memory"].wall_s, trained["store"].wall_s)
    report.requirements.append(Requirement("speed of training from a local store against memory", ratio, 0.5))
    ratio = median_ratio(drawn["memory"].cpu_s, drawn["store"].cpu_s)
    report.requirements.append(Requirement("windows alone from a local store against memory", ratio, 0.5))
    n_windows = N_BATCHES * CONFIG.batch_size
    for name, timing in drawn.items():
        report.medians[f"windows/s, {name}"] = n_windows / timing.median_s
    n_windows = WindowSampler(tables["memory"], CONFIG.length).n_windows(CONFIG.step)
    for name, timing in trained.items():
        report.medians[f"windows/s in training, {name}"] = n_windows / timing.median_s


def measure_objects(report: Report) -> None:
    """Windows and epochs of a store on S3."""
    with s3_server() as counting:
        tables = load_both(random_store(f"s3://{BUCKET}/store.zarr", N_FAR_VIDEOS, N_FRAMES, WIDTH))
        read, n_windows = (
            draw(tables["store"], N_FAR_BATCHES, tables["store"].n_readers),
            N_FAR_BATCHES * CONFIG.batch_size,
        )
        read()
        before = counting.seen.total()
        read()
        report.medians["S3, requests by window"] = (counting.seen.total() - before) / n_windows
        report.medians["S3, windows/s"] = n_windows / in_turns({"store": read}, rounds=2, n_warmups=0)["store"].median_s
        trained = in_turns({name: train(table) for name, table in tables.items()}, rounds=1, n_warmups=0)
        n_windows = WindowSampler(tables["memory"], CONFIG.length).n_windows(CONFIG.step)
        report.medians["S3, windows/s in training"] = n_windows / trained["store"].median_s
        ratio = median_ratio(trained["memory"].wall_s, trained["store"].wall_s)
        report.ratios["speed of training from S3 against memory"] = ratio
    tables = load_both(random_store("memory://store.zarr", N_FAR_VIDEOS, N_FRAMES, WIDTH))
    with latency():
        trained = in_turns({name: train(table) for name, table in tables.items()}, rounds=2, n_warmups=0)
    report.medians["latency alone, windows/s in training"] = n_windows / trained["store"].median_s
    ratio = median_ratio(trained["memory"].wall_s, trained["store"].wall_s)
    report.ratios["speed of training with latency alone against memory"] = ratio


@contextmanager
def latency() -> Iterator[None]:
    """Requests of a batch come late, all together."""
    read = FeatureStore.read_ranges

    def read_late(store: FeatureStore, ranges: Sequence[tuple[str, int, int]]) -> list[bytes | None]:
        time.sleep(LATENCY_S)
        return read(store, ranges)

    FeatureStore.read_ranges = read_late  # type: ignore[method-assign]
    try:
        yield
    finally:
        FeatureStore.read_ranges = read  # type: ignore[method-assign]


def measure_memory(root: Path, report: Report) -> None:
    """The highest memory of processes that train from stores of several sizes."""
    video_mb = N_FRAMES * WIDTH * 2 / 1e6
    peaks = []
    for times in (1, 3):
        place = root / f"{times}.zarr"
        n_videos = round(times * LIMIT_MB / video_mb)
        random_store(place, n_videos, N_FRAMES, WIDTH)
        peaks.append(_limited(place))
        report.medians[f"highest memory, store of {n_videos * video_mb:,.0f} MB, MB"] = peaks[-1]
    text = "highest memory of three times the store over one"
    report.requirements.append(Requirement(text, peaks[1] - peaks[0], FLAT_MB, "MB", at_least=False))


def _limited(place: Path) -> float:
    """Train from a store in a process with limited memory; its highest resident memory, MB."""
    group = Path(f"/sys/fs/cgroup/memory/abaw-beyond-memory-{os.getpid()}")
    with suppress(OSError):
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(LIMIT_MB * 10**6))
    command = [sys.executable, "-m", "benchmarks.beyond_memory", str(place), str(group)]
    try:
        return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    finally:
        with suppress(OSError):
            group.rmdir()


def _train_limited(place: Path, group: Path) -> None:
    try:
        (group / "cgroup.procs").write_text(str(os.getpid()))
    except OSError:
        resource.setrlimit(resource.RLIMIT_DATA, (LIMIT_MB * 10**6, LIMIT_MB * 10**6))
    os.environ.pop("TMPDIR", None)
    table = load_split(CONFIG, FeatureStore.open(place), "train")
    assert table.stored, "the table is in memory"
    train(table)()
    draw(table, N_BATCHES)()
    print(peak_kib() / 1000)


def main() -> None:
    """Measure and print; with arguments, be one of the processes whose memory is limited."""
    if len(sys.argv) > 1:
        _train_limited(Path(sys.argv[1]), Path(sys.argv[2]))
        return
    report = Report("beyond_memory", METHOD)
    with tempfile.TemporaryDirectory() as folder:
        measure_folder(random_store(Path(folder) / "store.zarr", N_VIDEOS, N_FRAMES, WIDTH), report)
    measure_objects(report)
    with tempfile.TemporaryDirectory() as folder:
        measure_memory(Path(folder), report)
    report.publish()


if __name__ == "__main__":
    main()
