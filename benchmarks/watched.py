"""One extraction in a process of its own, and measurements of it: start, speed, memory and cores.

`benchmarks.cluster` starts these processes, with the plug-in that has the networks that do nothing.
"""

import _thread
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from benchmarks.measure import peak_kib
from benchmarks.nothing_family import NARROW, NOTHING

SAMPLE_S = 0.5  # between two samples of the processor time
STEADY = 0.25  # fraction of the frames after which every process is busy

ROOT = Path(__file__).resolve().parent.parent
PYTHONPATH = (ROOT / ".dev", ROOT, ROOT / "benchmarks" / "plugin")
ENVIRONMENT = {"PYTHONPATH": os.pathsep.join(map(str, PYTHONPATH)), "OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Case:
    """An extraction to watch.

    Attributes:
        data, store: folders.
        backbone: its name; vit and the like get random weights.
        workers: of a local cluster, one thread each; 0 for no cluster: all in one process.
        batch_size: frames in a batch; 0 takes the default.
        until_first: end it, as Ctrl-C does, as soon as the first frame is reported.
    """

    data: str
    store: str
    backbone: str = NOTHING
    workers: int = 0
    batch_size: int = 0
    until_first: bool = False


@dataclass(frozen=True)
class Watched:
    """Measurements; times in s since `extract()` was called, `nan` for events that did not happen.

    Attributes:
        ready_s: of the process, until it calls `extract()`: Python's start and imports.
        plan_s: until the number of frames to read was known.
        first_s, last_s: until the first and the last report of frames.
        total_s: until `extract()` returned.
        frames_per_s: from the first report after a quarter of the frames to the last one.
        worker_cores, own_cores: processor time over time, meanwhile, of its child processes and of itself.
        began_mb, peak_mb: resident memory of this process, without its child processes, at its highest before
            `extract()` was called and until it returned.
        n_frames, n_done, n_skipped: of the summary.
    """

    ready_s: float
    plan_s: float
    first_s: float
    last_s: float
    total_s: float
    frames_per_s: float
    worker_cores: float
    own_cores: float
    began_mb: float
    peak_mb: float
    n_frames: int
    n_done: int
    n_skipped: int

    @property
    def whole_s(self) -> float:
        """The whole command, Python's start included."""
        return self.ready_s + self.total_s


def watch(case: Case) -> Watched:
    """Run an extraction in a new process.

    Raises:
        RuntimeError: it fails; with the end of its error output.
    """
    command = [sys.executable, "-m", "benchmarks.watched", json.dumps(asdict(case))]
    environment = {**os.environ, **ENVIRONMENT}
    run = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    if run.returncode:
        raise RuntimeError(f"{case} failed: {run.stderr[-3000:]}")
    return Watched(**json.loads(run.stdout.splitlines()[-1]))


def bare_rate(n_processes: int, backbone: str, batch_size: int, seconds: float) -> float:
    """Frames a second of bare forward passes in some processes at once, one thread each, without `abaw extract`."""
    command = [sys.executable, "-m", "benchmarks.watched", "bare", backbone, str(batch_size), str(seconds)]
    processes = [
        subprocess.Popen(
            command,
            env={**os.environ, **ENVIRONMENT},
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(n_processes)
    ]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()  # it is warm
    return sum(float(process.communicate("\n")[0]) for process in processes)


class Watcher:
    """A reporter that keeps times, and samples the processor time."""

    def __init__(self, until_first: bool) -> None:
        self._until_first, self._began = until_first, time.perf_counter()
        self._process = psutil.Process()
        self.plan_s, self.total, self.n_frames = float("nan"), 0, 0
        self.first: tuple[float, int] | None = None
        self.steady: tuple[float, int] | None = None
        self.last: tuple[float, int] = (float("nan"), 0)
        self.samples: list[tuple[float, float, float]] = []  # time, processor time of children and of itself

    def since(self) -> float:
        """Seconds since the beginning."""
        return time.perf_counter() - self._began

    def start(self, label: str, total: int, unit: str, done: int = 0) -> None:
        """The plan is ready."""
        self.plan_s, self.total = self.since(), total

    def advance(self, n: int = 1, note: str = "") -> None:
        """Count frames that are done."""
        self.n_frames += n
        self.last = (self.since(), self.n_frames)
        if self.first is None:
            self.first = self.last
            if self._until_first:
                _thread.interrupt_main()
        if self.steady is None and self.n_frames >= STEADY * self.total:
            self.steady = self.last
        if self.steady and (not self.samples or self.last[0] - self.samples[-1][0] > SAMPLE_S):
            self.samples.append((self.last[0], self._children_s(), time.process_time()))

    def finish(self) -> None:
        """Nothing."""

    def log(self, line: str) -> None:
        """Nothing."""

    def warn(self, sentence: str) -> None:
        """Nothing."""

    def _children_s(self) -> float:
        total = 0.0
        for child in self._process.children(recursive=True):
            try:
                times = child.cpu_times()
                total += times.user + times.system
            except psutil.NoSuchProcess:
                continue
        return total

    def rate(self) -> float:
        """Frames a second from the first report after a quarter of the frames to the last report."""
        if self.steady is None or self.last[0] == self.steady[0]:
            return float("nan")
        return (self.last[1] - self.steady[1]) / (self.last[0] - self.steady[0])

    def cores(self) -> tuple[float, float]:
        """Processor time over time, of the children and of this process."""
        if len(self.samples) < 2:
            return float("nan"), float("nan")
        (begin, *before), (end, *after) = self.samples[0], self.samples[-1]
        children_cores, own_cores = (float(b - a) / (end - begin) for a, b in zip(before, after, strict=True))
        return children_cores, own_cores


def _extract(case: Case) -> Watched:
    from abaw.pipeline import ClusterOptions, ExtractOptions, extract

    options = ExtractOptions(
        Path(case.data),
        Path(case.store),
        (case.backbone,),
        device="cpu",
        batch_size=case.batch_size,
        untrained=case.backbone not in (NOTHING, NARROW),
    )
    cluster = None
    if case.workers:
        file = Path(f"{case.store}.{case.workers}.toml")
        file.write_text(f'[cluster]\nkind = "local"\nworkers = {case.workers}\nthreads = 1\n', encoding="utf-8")
        cluster = ClusterOptions(file=file)
    ready_s = time.time() - psutil.Process().create_time()
    began_mb, watcher = peak_kib() / 1000, Watcher(case.until_first)
    summary = extract(options, watcher, cluster)
    total_s = watcher.since()
    assert summary.ok or (case.until_first and summary.is_interrupted), summary
    worker_cores, own_cores = watcher.cores()
    return Watched(
        ready_s=ready_s,
        plan_s=watcher.plan_s,
        first_s=watcher.first[0] if watcher.first else float("nan"),
        last_s=watcher.last[0],
        total_s=total_s,
        frames_per_s=watcher.rate(),
        worker_cores=worker_cores,
        own_cores=own_cores,
        began_mb=began_mb,
        peak_mb=peak_kib() / 1000,
        n_frames=summary.n_frames,
        n_done=len(summary.done),
        n_skipped=len(summary.skipped),
    )


def _forward(backbone_name: str, batch_size: int, seconds: float) -> float:
    import torch

    from abaw.backbones.backbone import create_backbone

    backbone = create_backbone(backbone_name, untrained=True)
    ready = backbone.preprocess(torch.zeros((batch_size, 112, 112, 3), dtype=torch.uint8))
    backbone(ready)
    print("warm", flush=True)
    sys.stdin.readline()
    began, n_frames = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        backbone(ready)
        n_frames += batch_size
    return n_frames / (time.perf_counter() - began)


if __name__ == "__main__":
    if sys.argv[1] == "bare":
        print(_forward(sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
    else:
        print(json.dumps(asdict(_extract(Case(**json.loads(sys.argv[1]))))))
