"""Workers that are processes of this machine: started, and started again for as long as there is work."""

import logging
import signal
from multiprocessing import resource_tracker
from typing import Any

import dask
from distributed import Nanny, Scheduler, SpecCluster, Status
from tornado.ioloop import PeriodicCallback

from abaw.core.errors import first_line
from abaw.extract.cluster.gpus import VISIBLE, Gpu, choose_gpus

# dask lets its workers give every page back at once, which costs a network on the CPU a third of its speed
MEMORY = dict.fromkeys(("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"), str(2**30))
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")  # torch heeds both, and dask sets to 1 in its workers what is not set
DEATHS = 2  # of workers at an order: processes of one machine are not taken away, the order is the cause
OWN_CLUSTER = {
    # the driver starts workers anew that hang; dask would, after Ctrl-Z for five minutes, take all of them for dead
    "distributed.scheduler.worker-ttl": None,
    "distributed.scheduler.allowed-failures": DEATHS - 1,  # the next one, and dask gives the order back to the driver
    # dask watches itself a hundred times a second, for a page that nobody opens, at the networks' expense
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "500 ms",
}
LOOK_S = 2.0  # between two looks at the workers
AWAY_S = 600  # dask gives a worker up that needs longer to begin anew; by default 15 s, too short for a busy machine
FAILED_STARTS = 3  # when so many in a row have failed, no more are tried


class LocalWorkers(SpecCluster):
    """A scheduler in this process, and workers each in one of its own; those that dask gives up are replaced.

    Args:
        n_workers: how many.
        threads: of each, for its networks on the CPU.
        gpus: those that the workers take in turn: numbers among the GPUs that this process may use, or their names;
            none without.

    Raises:
        RuntimeError: a worker cannot be started.
        UsageError: a GPU is not there.
    """

    def __init__(self, n_workers: int, threads: int, gpus: tuple[Gpu, ...]) -> None:
        visible = choose_gpus(gpus)
        self._n_failed, self._why = 0, ""  # of the starts since a worker was there last
        dask.config.set(OWN_CLUSTER | {"distributed.deploy.lost-worker-timeout": AWAY_S})
        scheduler = {"cls": Scheduler, "options": {"dashboard_address": ":0"}}
        workers = {number: _worker(threads, visible, number) for number in range(n_workers)}
        super().__init__(workers, scheduler, silence_logs="critical")
        self.sync(self._begin)

    def trouble(self) -> str:
        """Why no worker will come; empty while one may."""
        if self._n_failed < FAILED_STARTS:
            return ""
        return f"{self._n_failed} workers in a row could not be started ({self._why})"

    async def _begin(self) -> None:
        self.periodic_callbacks["workers"] = PeriodicCallback(self._look, LOOK_S * 1000)
        self.periodic_callbacks["workers"].start()

    async def _look(self) -> None:
        """Replace the workers whose nanny has given up, as it does where one dies while it starts."""
        if self.scheduler is not None and self.scheduler.workers:
            self._n_failed = 0
        for number, nanny in list(self.workers.items()):
            if nanny.status in (Status.closed, Status.failed):
                del self.workers[number]
        if self.status != Status.running or len(self.workers) == len(self.worker_spec) or self.trouble():
            return
        try:
            await self._correct_state()
        except Exception as error:  # whatever it died of; the next look tries again
            self._n_failed, self._why = self._n_failed + 1, first_line(error.__cause__ or error)


class LocalNanny(Nanny):
    """Starts a worker that keeps its memory, and does not hear Ctrl-C: the driver does, and ends it."""

    async def instantiate(self) -> Status:
        """Start the worker; processes inherit what their thread is deaf to."""
        self.pre_spawn_env.update(MEMORY)
        resource_tracker.ensure_running()  # would turn it back, were it started with the worker
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        return await super().instantiate()

    async def kill(self, timeout: float = 5, reason: str = "nanny-kill") -> None:
        """End the worker; one that is still starting at once, as dask would wait until it has, which it may never."""
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
        "nthreads": 1,
        "env": environment,
        "resources": resources,
        "memory_limit": 0,
        "preload": [
            "abaw.extract.cluster.worker"
        ],  # a worker comes when it can begin, and does not hang while it imports
        "silence_logs": logging.CRITICAL,  # what matters of dask's logs, the driver says in a sentence
    }
    return {"cls": LocalNanny, "options": settings}
