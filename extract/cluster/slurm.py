"""Slurm jobs with a worker each: submitted, watched, and replaced when they end while there is still work."""

import asyncio
import os
from pathlib import Path
from typing import Any

from distributed import Security, Status
from distributed.deploy.spec import ProcessInterface
from tornado.ioloop import PeriodicCallback

from abaw.core.errors import UsageError
from abaw.extract.cluster.pageless import PagelessScheduler
from abaw.extract.cluster.process_settings import interrupt_handler_kept

with interrupt_handler_kept():
    from dask_jobqueue.slurm import SLURMCluster, SLURMJob

CHECK_S = 10.0  # between two checks of the queue
MAX_FAILED_JOBS = 3  # in a row that ended before their worker connected; then no more are submitted


class WorkerJob(SLURMJob):
    """A slurm job that runs a worker."""

    async def close(self) -> None:
        """Cancel the job."""
        await ProcessInterface.close(self)  # marks it as closed, which a cluster checks at its end
        await super().close()


class SlurmWorkers(SLURMCluster):
    """A scheduler in this process, and slurm jobs with a worker each; those that end are replaced, which dask does not do.

    All connections are encrypted and need the credentials. Jobs read them from files in the folder of the logs, which only
    this user can read, and which are deleted at the end.

    Must start and end within `dask_settings`.

    Args:
        n_jobs: number of slurm jobs.
        logs: folder with a file for each slurm job.
        security: credentials; `Security.temporary` makes new ones.
        job: further options of `dask_jobqueue.SLURMCluster`.

    Raises:
        UsageError: slurm refuses the jobs.
    """

    job_cls = WorkerJob

    def __init__(self, n_jobs: int, logs: Path, security: Security, **job: Any) -> None:
        self._n_jobs, self._logs = n_jobs, logs
        self._seen: set[str] = set()  # names of the workers that have connected
        self._n_failed = 0  # jobs that ended before their worker connected, since the last one that did connect
        self._refusal = ""  # of the latest jobs
        super().__init__(
            scheduler_cls=PagelessScheduler,
            scheduler_options={"dashboard": False},
            security=security,
            shared_temp_directory=str(logs.absolute()),  # a job may begin in another folder
            **job,
        )
        try:
            self.sync(self._begin)
        except BaseException:  # also Ctrl-C: jobs may be in the queue
            self.close()
            raise
        if self._refusal:
            self.close()
            raise UsageError(f"Slurm refuses the jobs: {self._refusal}. Correct the cluster file.")

    def trouble(self) -> str:
        """Why no further worker will come; empty while one may, as for a job that waits or whose worker restarts."""
        scheduler = self.scheduler
        workers = list(scheduler.workers.values()) if scheduler is not None else []
        connected = {str(worker.name) for worker in workers}
        if any(job.job_id and name not in connected for name, job in list(self.workers.items())):
            return ""
        if self._n_failed >= MAX_FAILED_JOBS:
            return f"{self._n_failed} jobs in a row ended before their worker came; their logs in {self._logs} say why"
        return f"slurm refuses further jobs: {self._refusal}" if self._refusal else ""

    async def _close(self) -> None:
        """End the jobs and the scheduler, then delete the files of the credentials, which dask leaves to the garbage collector."""
        await super()._close()
        for name in ("_job_ca_file", "_job_cert", "_job_key"):
            if file := getattr(self, name, None):
                file.close()

    async def _begin(self) -> None:
        await asyncio.shield(self._submit())  # a job that is being submitted must be known when it is to be cancelled
        self.periodic_callbacks["jobs"] = PeriodicCallback(self._check, CHECK_S * 1000)
        self.periodic_callbacks["jobs"].start()

    async def _submit(self) -> None:
        while len(self.worker_spec) < self._n_jobs:
            self.worker_spec.update(self.new_worker_spec())
        self._refusal = ""
        try:
            await self._correct_state()
        except (RuntimeError, ValueError, OSError) as error:
            self._refusal = message_of_slurm(error)

    async def _check(self) -> None:
        """Replace the jobs that are over, or that were refused."""
        try:
            listed = await WorkerJob._call(["squeue", "--noheader", "--format=%A", f"--user={os.getuid()}"])
        except (RuntimeError, OSError):  # slurm does not answer; it may be restarting
            return
        if self.status != Status.running or self.scheduler is None:
            return
        queue, connected = set(listed.split()), {str(worker.name) for worker in self.scheduler.workers.values()}
        if connected - self._seen:
            self._seen |= connected
            self._n_failed = 0
        over = [name for name in self.worker_spec if name not in connected and not self._is_queued(name, queue)]
        for name in over:
            job = self.workers.pop(name, None)
            if job is not None:  # a job without a number was refused
                self._n_failed += job.job_id is not None and name not in self._seen
                await ProcessInterface.close(job)
        if not over or self._n_failed >= MAX_FAILED_JOBS:
            return
        # before the old ones go: a name that is used again would be taken for the worker that was lost
        for _ in over:
            self.worker_spec.update(self.new_worker_spec())
        for name in over:
            del self.worker_spec[name]
        await self._submit()

    def _is_queued(self, name: str, queue: set[str]) -> bool:
        return name in self.workers and self.workers[name].job_id in queue


def message_of_slurm(error: Exception) -> str:
    """What sbatch printed, from an error of dask-jobqueue, on one line."""
    text = str(error).partition("stderr:")[2] or str(error)
    lines = [line.removeprefix("sbatch: error: ").strip(" .") for line in text.splitlines()]
    return "; ".join(line for line in lines if line)
