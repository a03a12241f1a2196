"""The part of an extraction that runs on a worker of a dask cluster: it does jobs, and reports its progress."""

import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache

from distributed import Status, get_worker
from distributed.utils import sync

from abaw.core.errors import AbawError
from abaw.core.progress import Summary
from abaw.extract.cluster.jobs import Job
from abaw.extract.cluster.worker_progress import Report
from abaw.extract.request import ExtractOptions
from abaw.extract.stage import Stage

REPORT_S = 0.5  # between two reports
BEGIN_S = 5.0  # that the scheduler may take to hear of a job; then the work begins anyway
_WORKING = threading.Lock()  # a worker may have several threads, but it has its networks once


@dataclass(frozen=True)
class JobResult:
    """How a job ended.

    Attributes:
        worker: address of the worker.
        summary: what was done.
        unfit: why this worker cannot do such work at all, for example because it does not see the data; empty if it can.
        error: what went wrong with the job as a whole; empty if nothing did.
    """

    worker: str
    summary: Summary = field(default_factory=Summary)
    unfit: str = ""
    error: str = ""


class JobCancelled(Exception):
    """The driver does not want the job any more (it died, was interrupted, or gave the job away), or the worker is closing.

    Args:
        process: the worker's process, as in its reports.
    """

    def __init__(self, process: str) -> None:
        super().__init__(process)
        self.process = process


@lru_cache(maxsize=1)
def opened_stage(options: ExtractOptions, topic: str) -> Stage:
    """The stage of this process, opened once for all jobs of a driver.

    For another driver it is opened again, even with the same options: the data, the weights or the store may have changed.
    """
    return Stage.open(options)


class JobProgress:
    """Reports the progress of a job to the driver, and raises `JobCancelled` when the job is cancelled."""

    def __init__(self, job: str, topic: str) -> None:
        self._worker, self._job, self._topic = get_worker(), job, topic
        self._key = self._worker.get_current_task()
        self._n_frames = self._n_reported = 0
        self._reported_s = 0.0

    def begin(self) -> None:
        """Report that the job begins, and wait until the scheduler knows: the work may kill this process at once.

        Raises:
            JobCancelled: nobody waits for the job.
        """
        self._check()
        with suppress(OSError):
            log_event = self._worker.scheduler.log_event
            message = self._make_report(begins=True)
            sync(self._worker.loop, log_event, topic=self._topic, msg=message, callback_timeout=BEGIN_S)
        self._reported_s = time.monotonic()

    def advance(self, n: int, note: str = "") -> None:
        """Count `n` more frames that are done; reports them, but not the note, now and then.

        Raises:
            JobCancelled: nobody waits for the job.
        """
        if n:  # several threads pass 0, one thread counts
            self._n_frames += n
        self._check()
        if time.monotonic() - self._reported_s > REPORT_S:
            self.report()

    def report(self) -> None:
        """Report the frames that are done."""
        self._worker.log_event(self._topic, self._make_report())
        self._n_reported, self._reported_s = self._n_frames, time.monotonic()

    def _check(self) -> None:
        task = self._worker.state.tasks.get(self._key)
        if task is None or task.state == "cancelled" or self._worker.status in (Status.closing, Status.closed):
            raise JobCancelled(self._worker.id)

    def _make_report(self, begins: bool = False) -> Report:
        return {
            "worker": self._worker.address,
            "process": self._worker.id,
            "job": self._job,
            "begins": begins,
            "frames": self._n_frames,
            "new": self._n_frames - self._n_reported,
        }


def extract_videos(options: ExtractOptions, job: Job, topic: str) -> JobResult:
    """Do a job; videos that another worker has finished since the job was made are left as they are.

    Args:
        options: of the driver, with absolute paths.
        job: which videos, and for which features.
        topic: of dask's events, to which the progress is reported.

    Raises:
        JobCancelled: nobody waits for the job.
    """
    address = get_worker().address
    with _WORKING:
        progress = JobProgress(job.name, topic)
        progress.begin()
        try:
            stage = opened_stage(options, topic)
        except Exception as error:  # for example of CUDA or of a disk: other workers may do better
            return JobResult(address, unfit=_describe(error))
        missing = set(job.videos).difference(video.name for video in stage.dataset.videos)
        if missing:
            return JobResult(address, unfit=f"there is no video {min(missing)!r} in {options.data}.")
        summary = Summary()
        try:
            stage.run({job.pending: job.videos}, summary, progress.advance)
        except JobCancelled:
            raise
        except Exception as error:
            return JobResult(address, error=_describe(error))
        if summary.stopped and summary.device_failed:
            return JobResult(address, summary, error=summary.stopped.sentence)
        progress.report()
    # a worker that died had finished the skipped ones: they count as done by this run
    summary.done, summary.skipped = summary.done + summary.skipped, []
    return JobResult(address, summary)


def _describe(error: Exception) -> str:
    return str(error) if isinstance(error, AbawError) else f"{type(error).__name__}: {error}"
