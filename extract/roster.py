"""The workers of a cluster: which are there, and which of them can do the work."""

import time
from dataclasses import dataclass

from abaw.errors import UsageError
from abaw.extract.cluster import Cluster
from abaw.extract.follower import Follower
from abaw.extract.orders import Order

GONE = ("closing", "closed")  # states of a client that gave its scheduler up
LOST = "the connection to the scheduler was lost; run the same command again to go on"


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
        looked: when that look was, on the clock of `time.monotonic`.
    """

    def __init__(self, cluster: Cluster, follower: Follower) -> None:
        self.workers: dict[str, bool] = {}
        self.unfit: dict[str, str] = {}
        self.looked = 0.0
        self._cluster, self._follower = cluster, follower
        self._deserted_since = time.monotonic()

    def look(self) -> str:
        """See which workers there are; why the work has to stop, or nothing.

        Raises:
            UsageError: none of the workers can do the work.
        """
        now = self.looked = time.monotonic()
        found = self._cluster.client.scheduler_info(n_workers=-1)["workers"]
        if self._cluster.client.status in GONE:
            return LOST
        for address in self.workers.keys() - found.keys():
            self._follower.leave(address)
        self.workers = {address: bool(worker["resources"].get("GPU")) for address, worker in found.items()}
        if self.fit():
            self._deserted_since = now
            return ""
        is_out_of_patience = now - self._deserted_since > self._cluster.patience_s
        if self.workers and (self._is_hopeless() or is_out_of_patience):
            address = next(iter(self.workers))
            raise UsageError(f"No worker of the cluster can do this; {address} says: {self.unfit[address]}")
        if trouble := self._cluster.trouble():
            return f"{trouble}; see to it, and run the same command again"
        if is_out_of_patience:
            return (
                f"no worker was there for {self._cluster.patience_s:.0f} s (one that cannot import abaw leaves at once); "
                "see to the cluster, and run the same command again"
            )
        self._follower.reporter.advance(0, "waiting for a worker")
        return ""

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
        chosen = [address for address in fit if address not in order.failed_on] or fit
        return Bound(self.workers[fit[0]], tuple(chosen) if self.unfit or chosen != fit else ())

    def is_stranded(self, bound: Bound) -> bool:
        """Whether all that may take an order are gone, while others could."""
        could = [
            address
            for address, has_gpu in self.workers.items()
            if has_gpu >= bound.gpu and address in (bound.only or [address])
        ]
        return not could and bool(self.fit())

    def _is_hopeless(self) -> bool:
        """Whether as many workers as there will be have said that they are unfit; or all that ever had work."""
        n_workers = self._cluster.n_workers
        return len(self.unfit) >= n_workers if n_workers else self._follower.at_work.keys() <= self.unfit.keys()
