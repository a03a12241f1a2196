"""How far the workers of a cluster are: what they report, and one progress of it."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from abaw.core.progress import Reporter


@dataclass
class Follower:
    """What the workers have reported: frames of each order, and of each worker.

    Attributes:
        n_shown: frames that the bar shows.
        heard: when any worker said something last, on the clock of `time.monotonic`.
        orders: name -> frames of it.
        workers: address -> frames, and when it was heard first and last; of those that are there.
        lives: address -> the process that spoke last; one that begins anew may have the same address.
        at_work: process -> the order that it has begun last; also of those that are gone.
        split: orders whose frames count under others.
    """

    reporter: Reporter
    n_shown: int = 0
    heard: float = 0.0
    orders: dict[str, int] = field(default_factory=dict)
    workers: dict[str, tuple[int, float, float]] = field(default_factory=dict)
    lives: dict[str, str] = field(default_factory=dict)
    at_work: dict[str, str] = field(default_factory=dict)
    split: set[str] = field(default_factory=set)

    def hear(self, event: tuple[float, Mapping[str, Any]]) -> None:
        """Take one report of a worker.

        It has the worker's address and process, the order and whether that begins, its frames, those since the last report.
        """
        _, said = event
        now, order = time.monotonic(), said["order"]
        self.heard = now
        frames, first, _ = self.workers.get(said["worker"], (0, now, now))
        self.workers[said["worker"]] = frames + said["new"], first, now
        self.lives[said["worker"]] = said["life"]
        if said["begins"]:  # other reports of the one before may come later
            self.at_work[said["life"]] = order
        if order not in self.split:
            # one that began anew counts from 0: the bar waits for it
            self.orders[order] = max(said["frames"], self.orders.get(order, 0))
        n_frames = sum(list(self.orders.values()))
        if n_frames > self.n_shown:
            self.reporter.advance(n_frames - self.n_shown, self.rates())
            self.n_shown = n_frames

    def forget(self, order: str) -> None:
        """The frames of an order will be counted under others."""
        self.split.add(order)
        self.orders.pop(order, None)

    def leave(self, worker: str) -> None:
        """A worker is there no more."""
        self.workers.pop(worker, None)

    def rates(self) -> str:
        """Frames a second of each worker since its first report."""
        each = [f"{frames / max(last - first, 1.0):.0f}" for frames, first, last in list(self.workers.values())]
        return f"{len(each)} workers: {' '.join(each[:8])}{' ...' if len(each) > 8 else ''} frames/s"

    def heard_s(self, worker: str) -> float:
        """When a worker said something last, on the clock of `time.monotonic`; 0 if it never did."""
        return self.workers[worker][2] if worker in self.workers else 0.0
