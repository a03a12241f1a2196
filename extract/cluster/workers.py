"""The workers of a cluster: which are there, and which of them can do the work."""

import time
from contextlib import suppress
from dataclasses import dataclass

from abaw.core.errors import UsageError
from abaw.core.progress import AGAIN
from abaw.extract.cluster.cluster import Cluster
from abaw.extract.cluster.job_progress import Follower
from abaw.extract.cluster.jobs import Order

GONE = ("closing", "closed")  # states of a client that gave its scheduler up
RESTART_S = 30.0
LOST = f"the connection to the scheduler was lost; {AGAIN} to go on"


@dataclass(frozen=True)
class Bound:
    """Which workers may take an order.

    Attributes:
        gpu: only one that has a GPU to give.
        only: addresses; empty where any may, also one that comes later.
    """

    gpu: bool
    only: tuple[str, ...] = ()


class Roster:
    """The workers that are there, as of the last look.

    Attributes:
        workers: address -> whether it has a GPU to give.
        unfit: address of each that cannot do the work -> why.
    """

    def __init__(self, cluster: Cluster, follower: Follower) -> None:
        self.workers: dict[str, bool] = {}
        self.unfit: dict[str, str] = {}
        self._paused: set[str] = set()
        self._cluster, self._follower = cluster, follower
        self._deserted_since = time.monotonic()

    def look(self) -> str:
        """See which workers there are; why the work has to stop, or nothing.

        Raises:
            UsageError: none of the workers can do the work.
        """
        now = time.monotonic()
        client = self._cluster.client
        if client.status in GONE:
            return LOST
        assert client.scheduler is not None
        try:  # `scheduler_info` may return what the client has got for itself meanwhile, which is without workers
            found = client.sync(client.scheduler.identity, n_workers=-1)["workers"]
        except OSError:  # the scheduler is away; the client gives it up in time
            return LOST if client.status in GONE else ""
        for address in self.workers.keys() - found.keys():
            self._follower.leave(address)
        # orders ask for a whole one
        self.workers = {address: worker["resources"].get("GPU", 0) >= 1 for address, worker in found.items()}
        self._paused = {address for address, worker in found.items() if worker["status"] == "paused"}
        if not self._paused.issuperset(self.fit()):
            self._deserted_since = now
            return ""
        self._deserted_since = max(self._deserted_since, self._follower.heard)  # a paused one ends what it has begun
        return self._trouble(now - self._deserted_since)

    def _trouble(self, deserted_s: float) -> str:
        """Why to stop though no fit worker takes orders, or nothing while one may come; raises as `look` does."""
        is_out_of_patience = deserted_s > self._cluster.patience_s
        if self.fit():
            what, remedy = "dask has paused the workers for want of memory", "start them with --memory-limit 0"
        elif self.workers and (self._is_hopeless() or is_out_of_patience):
            address = next(iter(self.workers))
            raise UsageError(f"No worker of the cluster can do this; {address} says: {self.unfit[address]}")
        else:
            what, remedy = "no worker is there", "see to the cluster (a worker that cannot import abaw leaves at once)"
        if trouble := self._cluster.trouble():
            return f"{trouble}; see to it, and {AGAIN}"
        if is_out_of_patience:
            return f"{what}, for {self._cluster.patience_s:.0f} s now; {remedy}, and {AGAIN}"
        self._follower.reporter.advance(0, what)
        return ""

    def is_paused(self, address: str) -> bool:
        """Whether dask lets a worker begin nothing, as its memory is nearly full."""
        return address in self._paused

    def fit(self) -> list[str]:
        """Addresses of the workers that can do the work; where some have a GPU to give, only they do."""
        fit = [address for address in self.workers if address not in self.unfit]
        return [address for address in fit if self.workers[address]] or fit

    def n_expected(self) -> int:
        """How many workers there will be, or are there; 0 where nobody knows yet."""
        return max(len(self.workers), self._cluster.n_workers)

    def bind(self, order: Order) -> Bound:
        """Who may take an order: if it can be, one that has not failed with it. There must be a fit worker."""
        fit = self.fit()
        chosen = [address for address in fit if address not in {*order.failed_on, *self._paused}] or fit
        return Bound(self.workers[fit[0]], tuple(chosen) if self.unfit or chosen != fit else ())

    def is_stranded(self, bound: Bound) -> bool:
        """Whether all that may take an order are gone or paused, while others could."""
        awake = self.workers.keys() - self._paused
        could = [
            address
            for address in bound.only or self.workers
            if address in awake and (self.workers[address] or not bound.gpu)
        ]
        return not could and not self._paused.issuperset(self.fit())

    def restart(self, workers: list[str], reason: str) -> None:
        """Start workers anew; those without a nanny end."""
        client = self._cluster.client
        assert client.scheduler is not None
        with suppress(OSError):
            client.sync(  # `Client.restart_workers` refuses workers without a nanny, the scheduler lets them go
                client.scheduler.restart_workers,
                workers=workers,
                timeout=RESTART_S,
                wait_for_workers=False,
                on_error="return",
                stimulus_id=reason,
            )

    def _is_hopeless(self) -> bool:
        """Whether as many workers as there will be are there, and unfit; or all that ever had work were."""
        if self._cluster.n_workers:
            return len(self.workers) >= self._cluster.n_workers
        return self.unfit.keys() >= set(self._follower.lives)
