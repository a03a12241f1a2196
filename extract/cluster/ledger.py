"""Bookkeeping of an extraction on a cluster: which jobs wait, run or failed, and who is to blame for a failure.

Nothing in here talks to a cluster or reads a clock: the driver records what it sees, and then does what the ledger says.
"""

from collections import Counter, deque
from collections.abc import Collection, Iterable, Sequence

from abaw.core.progress import AGAIN, Stop, Summary
from abaw.extract.cluster.jobs import Job
from abaw.extract.cluster.worker_progress import WorkerProgress

MAX_EARLY = 3  # jobs that were given up before any frame was done: the videos are not to blame
MAX_UNFETCHED = 3  # results in a row, beyond one for each worker: the network is to blame, not workers that hang
MAX_RETURNS = 8  # of a job that dask gave up: it is to blame, whatever its workers were doing
MAX_ATTEMPTS = 2  # of a video alone, on different workers if possible
DIED = "each worker that had it died, perhaps for want of memory; see the workers' logs"


class Ledger:
    """Which jobs wait and run, which failures count against them, and what follows from that.

    Whatever is recorded of a job that does not run any more is ignored: reports and results may come late.

    Args:
        summary: gets what was done, which videos failed, and why the work stopped.
        progress: reports of the workers.
        max_deaths: a job is given up when so many workers died while they were at it.
    """

    def __init__(self, summary: Summary, progress: WorkerProgress, max_deaths: int) -> None:
        self._summary, self._progress, self._max_deaths = summary, progress, max_deaths
        self._waiting: deque[Job] = deque()
        self._running: dict[str, Job] = {}
        self._handled_deaths: set[str] = set()  # processes whose end is accounted for
        self._n_deaths: Counter[str] = Counter()  # of workers, by the job that they were at
        self._n_returns: Counter[str] = Counter()
        self._n_early = self._n_unfetched = 0

    @property
    def waiting(self) -> Sequence[Job]:
        """Jobs that no worker has, the next one first."""
        return self._waiting

    @property
    def running(self) -> Collection[str]:
        """Names of the jobs that were started and have not ended."""
        return self._running.keys()

    @property
    def is_over(self) -> bool:
        """Whether no job is left, or the work has to stop."""
        return self._summary.stopped is not None or not (self._waiting or self._running)

    def stop(self, sentence: str) -> None:
        """Stop the work because the cluster failed; the first reason counts."""
        if not self._summary.stopped:
            self._summary.stopped = Stop("cluster failed", sentence)

    def add(self, jobs: Iterable[Job]) -> None:
        """Let jobs wait, behind those that wait already."""
        self._waiting.extend(jobs)

    def start_next(self) -> Job:
        """The job that waited longest; it runs from now on."""
        job = self._waiting.popleft()
        self._running[job.name] = job
        return job

    def suspects(self, process: str, jobs: Collection[str], may_begin: bool = True) -> list[str]:
        """Of the jobs that a hanging worker has, those that may be the cause: the one that it is at, if that is known.

        Args:
            process: of the worker; empty if it never reported.
            jobs: names of those that it has.
            may_begin: whether it may have begun any of them without a report.
        """
        running = [name for name in jobs if name in self._running]
        current = self._progress.current_jobs.get(process)
        if current in running:
            return [current]
        return running if may_begin else []

    # how a job ends

    def finish(self, name: str, done: Summary) -> None:
        """Record what a worker did of a job; videos that failed are not tried again."""
        if self._running.pop(name, None):
            self._summary.add(done)

    def requeue(self, name: str) -> None:
        """Let a job run again, before all others; it is not to blame."""
        if job := self._running.pop(name, None):
            self._waiting.appendleft(job)

    def record_failure(self, name: str, worker: str, reason: str, early: str = "") -> None:
        """A job failed: try its videos one by one, or a single video once more on another worker.

        Args:
            name: of the job.
            worker: address; empty if unknown.
            reason: what the summary says of a video that fails for good.
            early: verb for what happened, if a fault of the workers would look the same.
        """
        if not (job := self._running.pop(name, None)):
            return
        job = job.after_failure(worker)
        if len(job.videos) == 1 and len(job.failed_on) < MAX_ATTEMPTS:
            self._waiting.append(job)
        else:
            self._give_up(job, reason, early)

    # deaths of workers

    def ignore_death(self, process: str) -> None:
        """The end of a process is not to count, as that of one that is restarted or leaves by itself."""
        self._handled_deaths.add(process)

    def record_death(self, process: str, finished: Collection[str] = (), otherwise: str = "") -> None:
        """Count the death of a worker, once, against the job that it was at.

        Args:
            process: of the worker; empty if it never reported.
            finished: names of jobs that have a result: a worker that died afterwards did not die of them.
            otherwise: job that is to blame where the worker never reported.
        """
        suspect: str | None = otherwise
        if process:
            if process in self._handled_deaths:
                return
            self._handled_deaths.add(process)
            suspect = self._progress.current_jobs.get(process)
        if suspect in self._running and suspect not in finished:
            self._blame(suspect)

    def record_return(self, name: str, process: str, finished: Collection[str] = ()) -> None:
        """Record that dask gave up a job because workers died that had it; they may have been at another one.

        Args:
            name: of the job.
            process: of the worker that died last; empty if it never reported.
            finished: see `record_death`.
        """
        if name not in self._running:
            return
        self._n_returns[name] += 1
        if self._n_returns[name] >= MAX_RETURNS:
            self._blame(name)
        else:
            self.record_death(process, finished, name)

    # results that cannot be fetched

    def record_fetched(self) -> None:
        """A result arrived: the network works."""
        self._n_unfetched = 0

    def record_unfetched(self, workers: Sequence[str]) -> None:
        """A result cannot be fetched; too many in a row stop the work.

        Args:
            workers: addresses of the workers that are connected.
        """
        self._n_unfetched += 1
        if self._n_unfetched > MAX_UNFETCHED + len(workers):
            addresses = ", ".join(workers[:3])
            self.stop(
                f"results cannot be fetched: see that the scheduler reaches its workers ({addresses}), and {AGAIN}"
            )

    # verdicts

    def _blame(self, name: str) -> None:
        self._n_deaths[name] += 1
        if self._n_deaths[name] >= self._max_deaths:  # until then, dask lets other workers try it
            self._give_up(self._running.pop(name), DIED, "die")

    def _give_up(self, job: Job, reason: str, early: str) -> None:
        """Try the videos of a job one by one; a video that was tried alone fails."""
        if early and not (self._progress.n_shown or self._summary.done):  # sounds without crops show no frames
            self._n_early += 1
            if self._n_early >= MAX_EARLY:
                self.stop(f"workers {early} before they finish a frame; see their logs and their memory, and {AGAIN}")
        if len(job.videos) > 1:
            self._progress.forget(job.name)
            self.add(job.split())
        elif not self._summary.stopped:
            self._summary.failed[job.videos[0]] = reason
