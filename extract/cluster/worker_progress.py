"""Progress of the workers of a cluster: what they report, drawn as one progress bar, and which of them are silent."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypedDict

from abaw.core.progress import Reporter

PAUSE_S = 60.0  # a driver that has not checked its workers for so long was suspended itself


class Report(TypedDict):
    """One report of a worker.

    Attributes:
        worker: address of the worker.
        process: identifier of its process; a new process may get the old address.
        job: name of the job.
        begins: whether the job begins with this report.
        frames: of the job that are done.
        new: frames since the report before.
    """

    worker: str
    process: str
    job: str
    begins: bool
    frames: int
    new: int


@dataclass
class WorkerProgress:
    """What the workers have reported: frames of each job, and of each worker.

    Attributes:
        reporter: draws the progress bar.
        n_shown: frames that the bar shows.
        last_report_s: time of the latest report of any worker, on the clock of `time.monotonic`.
        jobs: name -> frames of it.
        workers: address of each connected worker -> frames, and the times of its first and its latest report.
        processes: address -> the process that reported last.
        current_jobs: process -> name of the job that it began last; also for processes that ended.
        split_jobs: names of jobs whose frames count under others.
    """

    reporter: Reporter
    n_shown: int = 0
    last_report_s: float = 0.0
    jobs: dict[str, int] = field(default_factory=dict)
    workers: dict[str, tuple[int, float, float]] = field(default_factory=dict)
    processes: dict[str, str] = field(default_factory=dict)
    current_jobs: dict[str, str] = field(default_factory=dict)
    split_jobs: set[str] = field(default_factory=set)

    def take(self, event: tuple[float, Report]) -> None:
        """Take one event of the topic that the workers report to: a time, which is ignored, and the report."""
        _, report = event
        now, job = time.monotonic(), report["job"]
        self.last_report_s = now
        frames, first, _ = self.workers.get(report["worker"], (0, now, now))
        self.workers[report["worker"]] = frames + report["new"], first, now
        self.processes[report["worker"]] = report["process"]
        if report["begins"]:  # other reports of the job before may still arrive
            self.current_jobs[report["process"]] = job
        if job not in self.split_jobs:
            # a job that is restarted counts from 0: the bar waits for it
            self.jobs[job] = max(report["frames"], self.jobs.get(job, 0))
        n_frames = sum(list(self.jobs.values()))
        if n_frames > self.n_shown:
            self.reporter.advance(n_frames - self.n_shown, self.rates())
            self.n_shown = n_frames

    def forget(self, job: str) -> None:
        """Drop the frames of a job that was split; they will be counted under its parts."""
        self.split_jobs.add(job)
        self.jobs.pop(job, None)

    def remove(self, worker: str) -> None:
        """Drop a worker that has left."""
        self.workers.pop(worker, None)

    def rates(self) -> str:
        """Frames a second of each worker since its first report."""
        rates = [f"{frames / max(last - first, 1.0):.0f}" for frames, first, last in list(self.workers.values())]
        return f"{len(rates)} workers: {' '.join(rates[:8])}{' ...' if len(rates) > 8 else ''} frames/s"

    def reported_s(self, worker: str) -> float:
        """Time of the latest report of a worker, on the clock of `time.monotonic`; 0 if it never reported."""
        return self.workers[worker][2] if worker in self.workers else 0.0


class StallDetector:
    """Finds workers that have work and do not report.

    Args:
        stall_s: seconds without a report after which a worker counts as hanging.

    Attributes:
        checked_s: time of the latest check; 0 before the first.
    """

    def __init__(self, stall_s: float) -> None:
        self.checked_s = 0.0
        self._stall_s = stall_s
        self._busy_since: dict[str, float] = {}

    def find_hanging(self, reported_s: Mapping[str, float], now: float) -> list[str]:
        """Addresses of the workers that hang.

        A worker that gets its first work has the whole time. So has every worker after this process was suspended,
        because it could not receive reports, and one that was found hanging, because it is restarted.

        Args:
            reported_s: address of each worker that has work -> time of its latest report, 0 if it never reported.
            now: the time, on the same clock.
        """
        since = {} if now - self.checked_s > PAUSE_S else self._busy_since
        self.checked_s = now
        busy_since = {worker: since.get(worker, now) for worker in reported_s}
        hanging = [
            worker for worker, began in busy_since.items() if now - max(began, reported_s[worker]) > self._stall_s
        ]
        self._busy_since = {worker: began for worker, began in busy_since.items() if worker not in hanging}
        return hanging
