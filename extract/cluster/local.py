"""Workers that are processes of this machine: started, and restarted for as long as there is work."""

import logging
import signal
from multiprocessing import resource_tracker
from typing import Any

from distributed import Nanny, SpecCluster, Status
from tornado.ioloop import PeriodicCallback

from abaw.core.errors import first_line
from abaw.extract.cluster.gpus import VISIBLE, Gpu, choose_gpus
from abaw.extract.cluster.pageless import PagelessScheduler, PagelessWorker

# dask lets its workers give every page back at once, which costs a network on the CPU a third of its speed
MEMORY = dict.fromkeys(("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"), str(2**30))
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")  # torch heeds both, and dask sets to 1 in its workers what is not set
HOST = "127.0.0.1"  # dask asks for no password: who connects runs code as this user, so nobody from outside may
CHECK_S = 2.0  # between two checks of the workers
MAX_FAILED_STARTS = 3  # in a row; then no more workers are started


class LocalWorkers(SpecCluster):
    """A scheduler in this process, and workers each in a process of its own; those that dask gives up are replaced.

    All of them listen on the loopback alone, and serve no web pages.

    Must start and end within `dask_settings`.

    Args:
        n_workers: number of workers.
        threads: of each worker, for its networks on the CPU.
        gpus: the GPUs that the workers take in turn: numbers among those that this process may use, or names; empty for
            the CPU.
        check_s: seconds between two checks whether workers have to be replaced.

    Raises:
        RuntimeError: a worker cannot be started.
        UsageError: a GPU is missing.
    """

    def __init__(self, n_workers: int, threads: int, gpus: tuple[Gpu, ...], check_s: float = CHECK_S) -> None:
        visible = choose_gpus(gpus)
        self._check_s = check_s
        self._n_failed, self._reason = 0, ""  # of the starts since a worker was last connected
        scheduler = {"cls": PagelessScheduler, "options": {"host": HOST}}
        workers = {number: _worker(threads, visible, number) for number in range(n_workers)}
        super().__init__(workers, scheduler, silence_logs="critical")
        self.sync(self._begin)

    def trouble(self) -> str:
        """Why no worker will come; empty while one may."""
        if self._n_failed < MAX_FAILED_STARTS:
            return ""
        return f"{self._n_failed} workers in a row could not be started ({self._reason})"

    async def _begin(self) -> None:
        self.periodic_callbacks["workers"] = PeriodicCallback(self._check, self._check_s * 1000)
        self.periodic_callbacks["workers"].start()

    async def _check(self) -> None:
        """Replace the workers whose nanny has given up, as it does if one dies while it starts."""
        if self.scheduler is not None and self.scheduler.workers:
            self._n_failed = 0
        for number, nanny in list(self.workers.items()):
            if nanny.status in (Status.closed, Status.failed):
                del self.workers[number]
        if self.status != Status.running or len(self.workers) == len(self.worker_spec) or self.trouble():
            return
        try:
            await self._correct_state()
        except Exception as error:  # whatever it died of; the next check tries again
            self._n_failed, self._reason = self._n_failed + 1, first_line(error.__cause__ or error)


class LocalNanny(Nanny):
    """Starts a worker that keeps its memory, and that ignores Ctrl-C: the driver receives it, and ends the worker."""

    async def instantiate(self) -> Status:
        """Start the worker; processes inherit the signals that their thread blocks."""
        self.pre_spawn_env.update(MEMORY)
        resource_tracker.ensure_running()  # would unblock the signal, were it started with the worker
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        return await super().instantiate()

    async def kill(self, timeout: float = 5, reason: str = "nanny-kill") -> None:
        """End the worker; one that is still starting at once, as dask would wait until it has, which may never happen."""
        worker = self.process
        if worker is not None and worker.status == Status.starting and worker.is_alive() and worker.process is not None:
            await worker.process.kill()
        await super().kill(timeout, reason)


def _worker(threads: int, gpus: tuple[str, ...], number: int) -> dict[str, Any]:
    environment = dict.fromkeys(THREADS, str(threads))
    resources = {}
    if gpus:
        environment[VISIBLE] = gpus[number % len(gpus)]
        resources = {"GPU": 1}
    settings = {
        "host": HOST,
        "worker_class": PagelessWorker,
        "nthreads": 1,
        "env": environment,
        "resources": resources,
        "memory_limit": 0,
        # a worker connects when it can begin, and does not hang while it imports
        "preload": ["abaw.extract.cluster.worker"],
        "silence_logs": logging.CRITICAL,  # the driver says what matters of dask's logs
    }
    return {"cls": LocalNanny, "options": settings}
