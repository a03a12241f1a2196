"""Jobs of slurm with a worker each: submitted, watched, and replaced when they end while there is still work."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import dask
from distributed import Status
from distributed.deploy.spec import ProcessInterface
from tornado.ioloop import PeriodicCallback

from abaw.core.errors import UsageError
from abaw.extract.cluster.local import OWN_CLUSTER

_ON_INTERRUPT = signal.getsignal(signal.SIGINT)
from dask_jobqueue.slurm import SLURMCluster, SLURMJob  # noqa: E402

# dask-jobqueue sets a handler of its own, by which Ctrl-C ends the process without a word and as a success
signal.signal(signal.SIGINT, _ON_INTERRUPT)

LOOK_S = 10.0  # between two looks at the queue
AWAY_S = 120  # a worker without a scheduler, or a job without its worker, ends after so long: shared disks may be slow
FAILED_JOBS = 3  # when so many in a row have ended before their worker came, no more are submitted


class WorkerJob(SLURMJob):
    """A job that runs a worker."""

    async def close(self) -> None:
        """Cancel it."""
        await ProcessInterface.close(self)  # notes that it is closed, which a cluster insists on at its end
        await super().close()


class SlurmWorkers(SLURMCluster):
    """A scheduler in this process and jobs with a worker each; those that end are replaced, which dask does not do.

    Args:
        n_jobs: how many.
        logs: folder with a file for each job.
        job: further options of `dask_jobqueue.SLURMCluster`.

    Raises:
        UsageError: slurm refuses the jobs.
    """

    job_cls = WorkerJob

    def __init__(self, n_jobs: int, logs: Path, **job: Any) -> None:
        self._n_jobs, self._logs = n_jobs, logs
        self._came: set[str] = set()  # names of workers
        self._n_failed = 0  # jobs that ended before their worker came, since the last one that did come
        self._refusal = ""  # of the latest jobs
        dask.config.set(OWN_CLUSTER | {"distributed.deploy.lost-worker-timeout": AWAY_S})
        # several drivers on one machine would dispute the usual port of the dashboard
        super().__init__(death_timeout=AWAY_S, scheduler_options={"dashboard_address": ":0"}, **job)
        try:
            self.sync(self._begin)
        except BaseException:  # as Ctrl-C: jobs may be in the queue
            self.close()
            raise
        if self._refusal:
            self.close()
            raise UsageError(f"Slurm refuses the jobs: {self._refusal}. Correct the cluster file.")

    def trouble(self) -> str:
        """Why no further worker will come; empty while one may, as for a job that waits or whose worker begins anew."""
        scheduler = self.scheduler
        there = {str(worker.name) for worker in list(scheduler.workers.values())} if scheduler is not None else set()
        if any(job.job_id and name not in there for name, job in list(self.workers.items())):
            return ""
        if self._n_failed >= FAILED_JOBS:
            return f"{self._n_failed} jobs in a row ended before their worker came; their logs in {self._logs} say why"
        return f"slurm refuses further jobs: {self._refusal}" if self._refusal else ""

    async def _begin(self) -> None:
        await asyncio.shield(self._submit())  # a job that is being submitted must be known when it is to be cancelled
        self.periodic_callbacks["jobs"] = PeriodicCallback(self._look, LOOK_S * 1000)
        self.periodic_callbacks["jobs"].start()

    async def _submit(self) -> None:
        while len(self.worker_spec) < self._n_jobs:
            self.worker_spec.update(self.new_worker_spec())
        self._refusal = ""
        try:
            await self._correct_state()
        except (RuntimeError, ValueError, OSError) as error:
            self._refusal = what_slurm_said(error)

    async def _look(self) -> None:
        """Replace the jobs that are over, or that were refused."""
        try:
            listed = await WorkerJob._call(["squeue", "--noheader", "--format=%A", f"--user={os.getuid()}"])
        except (RuntimeError, OSError):  # slurm does not answer; it may be starting anew
            return
        if self.status != Status.running or self.scheduler is None:
            return
        queue, there = set(listed.split()), {str(worker.name) for worker in self.scheduler.workers.values()}
        if there - self._came:
            self._came |= there
            self._n_failed = 0
        over = [name for name in self.worker_spec if name not in there and not self._is_queued(name, queue)]
        for name in over:
            job = self.workers.pop(name, None)
            if job is not None:  # without a number it was refused
                self._n_failed += job.job_id is not None and name not in self._came
                await ProcessInterface.close(job)
        if not over or self._n_failed >= FAILED_JOBS:
            return
        # before the old ones go: a name that comes again would be taken for the worker that was lost
        for _ in over:
            self.worker_spec.update(self.new_worker_spec())
        for name in over:
            del self.worker_spec[name]
        await self._submit()

    def _is_queued(self, name: str, queue: set[str]) -> bool:
        return name in self.workers and self.workers[name].job_id in queue


def what_slurm_said(error: Exception) -> str:
    """The words of sbatch in an error of dask-jobqueue, on one line."""
    said = str(error).partition("stderr:")[2] or str(error)
    lines = [line.removeprefix("sbatch: error: ").strip(" .") for line in said.splitlines()]
    return "; ".join(line for line in lines if line)
