"""The workers of a cluster: which are connected, and which of them can do the work."""

import time
from contextlib import suppress
from dataclasses import dataclass

from abaw.core.errors import UsageError
from abaw.core.progress import AGAIN
from abaw.extract.cluster.cluster import Cluster
from abaw.extract.cluster.jobs import Job
from abaw.extract.cluster.worker_progress import WorkerProgress

GONE = ("closing", "closed")  # states of a client that has given up its scheduler
RESTART_S = 30.0
LOST = f"the connection to the scheduler was lost; {AGAIN} to continue"


@dataclass(frozen=True)
class Placement:
    """Which workers may take a job.

    Attributes:
        gpu: only one that offers a GPU.
        only: addresses; empty if any worker may, also one that connects later.
    """

    gpu: bool
    only: tuple[str, ...] = ()


class Workers:
    """The workers that were connected at the latest `refresh`.

    Attributes:
        connected: address -> whether the worker offers a GPU.
        unfit: address of each worker that cannot do the work -> the reason.
    """

    def __init__(self, cluster: Cluster, progress: WorkerProgress) -> None:
        self.connected: dict[str, bool] = {}
        self.unfit: dict[str, str] = {}
        self._paused: set[str] = set()
        self._cluster, self._progress = cluster, progress
        self._deserted_since = time.monotonic()

    def refresh(self) -> str:
        """Ask the scheduler for its workers; returns why the work has to stop, or an empty text.

        Raises:
            UsageError: none of the workers can do the work.
        """
        now = time.monotonic()
        client = self._cluster.client
        if client.status in GONE:
            return LOST
        assert client.scheduler is not None
        try:  # `scheduler_info` may return what the client has fetched for itself meanwhile, which lacks the workers
            workers = client.sync(client.scheduler.identity, n_workers=-1)["workers"]
        except OSError:  # the scheduler is away; in time, the client gives it up
            return LOST if client.status in GONE else ""
        for address in self.connected.keys() - workers.keys():
            self._progress.remove(address)
        # jobs ask for a whole GPU
        self.connected = {address: worker["resources"].get("GPU", 0) >= 1 for address, worker in workers.items()}
        self._paused = {address for address, worker in workers.items() if worker["status"] == "paused"}
        if not self._paused.issuperset(self.fit()):
            self._deserted_since = now
            return ""
        # a paused worker ends what it has begun
        self._deserted_since = max(self._deserted_since, self._progress.last_report_s)
        return self._trouble(now - self._deserted_since)

    def _trouble(self, deserted_s: float) -> str:
        """Why to stop now that no fit worker takes jobs; empty while one may come. Raises as `refresh` does."""
        is_out_of_patience = deserted_s > self._cluster.patience_s
        if self.fit():
            problem = "dask has paused the workers for want of memory"
            remedy = "start them with --memory-limit 0"
        elif self.connected and (self._is_hopeless() or is_out_of_patience):
            address = next(iter(self.connected))
            raise UsageError(f"No worker of the cluster can do this; {address} says: {self.unfit[address]}")
        else:
            problem = "no workers are connected"
            remedy = "check the cluster (a worker that cannot import abaw leaves at once)"
        if trouble := self._cluster.trouble():
            return f"{trouble}; fix that, and {AGAIN}"
        if is_out_of_patience:
            return f"{problem}, for {self._cluster.patience_s:.0f} s now; {remedy}, and {AGAIN}"
        self._progress.reporter.advance(0, problem)
        return ""

    def exclude(self, address: str, reason: str) -> bool:
        """Give no more work to a worker; false if it was excluded before."""
        is_new = address not in self.unfit
        self.unfit[address] = reason
        return is_new

    def is_paused(self, address: str) -> bool:
        """Whether dask lets a worker begin nothing because its memory is nearly full."""
        return address in self._paused

    def fit(self) -> list[str]:
        """Addresses of the workers that can do the work; if some offer a GPU, only those."""
        fit = [address for address in self.connected if address not in self.unfit]
        return [address for address in fit if self.connected[address]] or fit

    def n_expected(self) -> int:
        """How many workers there will be, or are connected; 0 where nobody knows yet."""
        return max(len(self.connected), self._cluster.n_workers)

    def placement_of(self, job: Job) -> Placement:
        """Which workers may take a job: if possible, those on which it has not failed. There must be a fit worker."""
        fit = self.fit()
        chosen = [address for address in fit if address not in {*job.failed_on, *self._paused}] or fit
        return Placement(self.connected[fit[0]], tuple(chosen) if self.unfit or chosen != fit else ())

    def is_stranded(self, placement: Placement) -> bool:
        """Whether all workers that may take a job are gone or paused, while others could take it."""
        awake = self.connected.keys() - self._paused
        able = [
            address
            for address in placement.only or self.connected
            if address in awake and (self.connected[address] or not placement.gpu)
        ]
        return not able and not self._paused.issuperset(self.fit())

    def restart(self, workers: list[str], reason: str) -> None:
        """Restart workers; those without a nanny end."""
        client = self._cluster.client
        assert client.scheduler is not None
        with suppress(OSError):
            client.sync(  # `Client.restart_workers` refuses workers without a nanny, the scheduler ends them
                client.scheduler.restart_workers,
                workers=workers,
                timeout=RESTART_S,
                wait_for_workers=False,
                on_error="return",
                stimulus_id=reason,
            )

    def _is_hopeless(self) -> bool:
        """Whether every worker that will come is connected and unfit; or every worker that ever reported is unfit."""
        if self._cluster.n_workers:
            return len(self.connected) >= self._cluster.n_workers
        return self.unfit.keys() >= set(self._progress.processes)
