"""Extraction on the workers of a dask cluster.

The driver makes jobs, groups of videos of about equal numbers of frames, and submits them. A worker opens the stage once
(its networks stay loaded) and writes its videos whole. What a worker that dies, hangs or is unfit had not finished goes to
another one; a job that costs worker after worker is tried video by video, so that only the culprit fails.

This module talks to dask; `Ledger` decides what follows from it.
"""

import time
import uuid
from contextlib import suppress

from distributed import CancelledError, Client, Future, KilledWorker, wait

from abaw.core.claim_files import check_claims
from abaw.core.progress import Reporter, Stop, Summary
from abaw.extract.cluster.cluster import Cluster, ClusterOptions, connected
from abaw.extract.cluster.jobs import make_jobs
from abaw.extract.cluster.ledger import Ledger
from abaw.extract.cluster.worker import JobCancelled, JobResult, extract_videos
from abaw.extract.cluster.worker_progress import StallDetector, WorkerProgress
from abaw.extract.cluster.workers import GONE, LOST, Placement, Workers
from abaw.extract.plan import ExtractionPlan
from abaw.extract.stage import Stage

JOBS_AHEAD = 2  # for each worker: one that runs, one that waits for it
CHECK_S = 2.0  # between two checks of the workers
FETCH_S = 5.0  # that a result may take to arrive


def run_on_cluster(
    stage: Stage, plan: ExtractionPlan, options: ClusterOptions, summary: Summary, reporter: Reporter
) -> None:
    """Extract what is planned on a cluster; what was done, and what failed, goes into the summary.

    Raises:
        UsageError: there is no such cluster, or none of its workers can do the work.
    """
    with connected(options) as cluster:
        Driver(stage, cluster, summary, reporter).run(plan)


class Driver:
    """Submits jobs to the workers of a cluster, and follows them.

    Args:
        stage: what is opened here, and again by each worker.
        cluster: runs the jobs.
        summary: gets what was done, which videos failed, and why the work stopped.
        reporter: draws the progress.
        fetch_s: seconds that a result may take to arrive.
    """

    def __init__(
        self, stage: Stage, cluster: Cluster, summary: Summary, reporter: Reporter, fetch_s: float = FETCH_S
    ) -> None:
        self._options = stage.options.absolute()  # a worker may have another working directory
        self._client: Client = cluster.client
        self._summary, self._reporter = summary, reporter
        self._stall_s, self._fetch_s = cluster.stall_s, fetch_s
        self._topic = f"abaw-extract-{uuid.uuid4().hex}"  # tasks of a driver that died may still report
        self._progress = WorkerProgress(reporter)
        self._workers = Workers(cluster, self._progress)
        self._stalls = StallDetector(cluster.stall_s)
        self._ledger = Ledger(summary, self._progress, cluster.deaths)
        self._futures: dict[str, Future] = {}  # by the name of the job
        self._placements: dict[str, Placement] = {}

    def run(self, plan: ExtractionPlan) -> None:
        """Extract until all is done or failed, or the work has to stop; see `run_on_cluster`."""
        try:
            self._ledger.add(make_jobs(plan, self._wait_for_workers()))
            while not self._ledger.is_over:
                check_claims()
                self._submit()
                self._collect()
                if time.monotonic() - self._stalls.checked_s > CHECK_S:
                    self._check_workers()
                    self._check_jobs()
        except KeyboardInterrupt:
            self._summary.stopped = Stop.interrupted()
        except Exception:
            if self._client.status not in GONE:
                raise
            self._summary.stopped = Stop("cluster failed", LOST)
        finally:
            if self._client.status == "running":
                self._client.cancel(list(self._futures.values()))
                self._client.unsubscribe_topic(self._topic)

    def _wait_for_workers(self) -> int:
        """How many workers there will be, or are connected; waits for the first where nobody knows."""
        self._check_workers()
        while not (self._workers.n_expected() or self._summary.stopped):
            time.sleep(CHECK_S / 4)
            self._check_workers()
        return max(1, self._workers.n_expected())

    # jobs: submitted, collected, cancelled

    def _submit(self) -> None:
        self._drop_ended()
        n_wanted = JOBS_AHEAD * len(self._workers.fit())
        while self._ledger.waiting and len(self._ledger.running) < n_wanted:
            job = self._ledger.start_next()
            placement = self._workers.placement_of(job)
            self._placements[job.name] = placement
            self._futures[job.name] = self._client.submit(
                extract_videos,
                self._options,
                job,
                self._topic,
                key=f"abaw-extract-{uuid.uuid4().hex}",
                resources={"GPU": 1} if placement.gpu else None,
                workers=placement.only or None,
            )

    def _collect(self) -> None:
        """Wait for a moment, and record what has ended."""
        if not self._futures:
            time.sleep(CHECK_S / 4)
            return
        with suppress(TimeoutError, CancelledError):
            wait(list(self._futures.values()), timeout=CHECK_S, return_when="FIRST_COMPLETED")
        for name, future in [(name, future) for name, future in self._futures.items() if future.status != "pending"]:
            result = self._fetch(future)
            if result is None and self._summary.stopped:
                break
            if future.status != "pending":  # else the result is lost, and dask lets another worker make it again
                self._record(name, future, result)
        self._drop_ended()

    def _fetch(self, future: Future) -> JobResult | None:
        """Result of a job that is done; None if it failed, or the worker that has it is gone or hangs."""
        if future.status != "finished":
            return None
        try:
            result = future.result(timeout=self._fetch_s)
        except Exception as error:
            if future.status == "finished" and not isinstance(error, OSError):
                raise
            self._ledger.record_unfetched(list(self._workers.connected))
            return None
        self._ledger.record_fetched()
        return result

    def _record(self, name: str, future: Future, result: JobResult | None) -> None:
        """Record how a job ended; one that was given up meanwhile does not count."""
        if name not in self._ledger.running:
            return
        error = future.exception() if future.status == "error" else None
        if result:
            self._record_result(name, result)
        elif isinstance(error, KilledWorker):
            process = self._progress.processes.get(error.last_worker.address, "")
            self._ledger.record_return(name, process, self._finished())
            self._check_workers()  # for those that died before that one: they count as long as the job runs
            self._ledger.requeue(name)
        elif isinstance(error, JobCancelled):  # by a worker that was about to leave
            self._ledger.ignore_death(error.process)
            self._ledger.requeue(name)
        elif error is not None:
            self._ledger.record_failure(name, "", f"{type(error).__name__}: {error}")
        else:  # to be done again, or found done where its worker hangs with the result; or the connection was lost
            self._ledger.requeue(name)

    def _record_result(self, name: str, result: JobResult) -> None:
        if result.unfit:
            if self._workers.exclude(result.worker, result.unfit):
                self._reporter.warn(f"Worker {result.worker} cannot do this: {result.unfit}")
            self._ledger.requeue(name)
        elif result.error:
            self._ledger.record_failure(name, result.worker, result.error)
            if result.summary.device_failed:
                self._restart([result.worker])
        else:
            self._ledger.finish(name, result.summary)

    def _drop_ended(self) -> None:
        """Cancel the tasks of jobs that do not run any more, and let go of their results."""
        for name in self._futures.keys() - self._ledger.running:
            future = self._futures.pop(name)
            del self._placements[name]
            if future.status == "pending":
                future.cancel()

    def _finished(self) -> list[str]:
        return [name for name, future in self._futures.items() if future.status == "finished"]

    # workers: those that leave, hang, or have jobs that nobody can take

    def _check_workers(self) -> None:
        # every time: the scheduler may have been restarted
        self._client.subscribe_topic(self._topic, self._progress.take)
        had_work = list(self._progress.current_jobs)  # before the check: none of them connects after it
        if trouble := self._workers.refresh():
            self._ledger.stop(trouble)
        connected_processes = {self._progress.processes.get(worker) for worker in self._workers.connected}
        for process in had_work:
            if process not in connected_processes:
                self._ledger.record_death(process, self._finished())

    def _check_jobs(self) -> None:
        """Take back jobs that no worker can take any more, and those of workers that hang."""
        try:
            processing = self._client.processing().items()
        except OSError:  # the scheduler is away: `_check_workers` waits for it
            return
        self._drop_ended()
        names = {future.key: name for name, future in self._futures.items()}  # workers may have tasks of others, too
        jobs_of = {
            worker: jobs for worker, keys in processing if (jobs := [names[key] for key in keys if key in names])
        }
        taken = {name for jobs in jobs_of.values() for name in jobs}
        for name, future in self._futures.items():
            if future.status == "pending" and name not in taken and self._workers.is_stranded(self._placements[name]):
                self._ledger.requeue(name)
        self._restart_hanging(jobs_of)

    def _restart_hanging(self, jobs_of: dict[str, list[str]]) -> None:
        """Restart workers that have jobs and do not report; the jobs that they were at are tried again, or split."""
        reported_s = {worker: self._progress.reported_s(worker) for worker in jobs_of}
        hanging = self._stalls.find_hanging(reported_s, time.monotonic())
        for worker in hanging:
            process = self._progress.processes.get(worker, "")
            for name in self._ledger.suspects(process, jobs_of[worker], not self._workers.is_paused(worker)):
                reason = f"its worker hung: it said nothing for {self._stall_s:.0f} s"
                self._ledger.record_failure(name, worker, reason, "hang")
        if hanging:
            self._restart(hanging)

    def _restart(self, workers: list[str]) -> None:
        self._drop_ended()  # before: dask would give them to other workers
        for worker in workers:
            self._ledger.ignore_death(self._progress.processes.get(worker, ""))
        self._workers.restart(workers, self._topic)
