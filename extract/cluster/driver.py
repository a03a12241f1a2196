"""Extraction on the workers of a dask cluster.

The driver plans, deals out groups of videos of about equal numbers of frames, and follows. A worker opens the stage once
(its networks stay loaded) and writes its videos whole. What a worker that dies, hangs or is unfit had not finished goes to
another one; a group that costs worker after worker is tried video by video, so that only the culprit fails.
"""

import time
import uuid
from collections import Counter, deque
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any

from distributed import CancelledError, Client, Future, KilledWorker, wait

from abaw.core.progress import AGAIN, Reporter, Stop, Summary
from abaw.extract.cluster.cluster import Cluster, ClusterOptions, connected
from abaw.extract.cluster.job_progress import Follower
from abaw.extract.cluster.jobs import Order, make_orders
from abaw.extract.cluster.worker import JobResult, Withdrawn, extract_videos
from abaw.extract.cluster.workers import GONE, LOST, Bound, Roster
from abaw.extract.plan import ExtractionPlan
from abaw.extract.stage import Stage

ORDERS_AHEAD = 2  # for each worker: one at work, one that waits for it
LOOK_S = 2.0  # between two looks of the driver at the workers
FETCH_S = 5.0
PAUSE_S = 60.0  # a driver that has not looked for so long was itself stopped
EARLY = 3  # orders that were given up before any frame was through: not the videos are to blame
UNFETCHED = 3  # results one after another, beyond one for each worker: it is not workers that hang, but the network
RETURNS = 8  # of an order that dask gave up: it is to blame, whatever the workers were at
TRIES = 2  # of a video alone, on different workers if it can be


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
    """Deals orders out to the workers of a cluster, and follows them."""

    def __init__(self, stage: Stage, cluster: Cluster, summary: Summary, reporter: Reporter) -> None:
        self._options = stage.options.absolute()  # a worker may have another working directory
        self._cluster, self._summary, self._reporter = cluster, summary, reporter
        self._client: Client = cluster.client
        self._topic = f"abaw-extract-{uuid.uuid4().hex}"  # tasks of a driver that died may still be talking
        self._follower = Follower(reporter)
        self._roster = Roster(cluster, self._follower)
        self._waiting: deque[Order] = deque()
        self._running: dict[Future, Order] = {}
        self._bound: dict[Future, Bound] = {}
        self._busy_since: dict[str, float] = {}
        self._looked_after = 0.0
        self._buried: set[str] = set()  # processes of workers whose end is accounted for
        self._n_deaths: Counter[str] = Counter()  # of workers at an order, by its name
        self._n_returns: Counter[str] = Counter()
        self._n_early = self._n_unfetched = 0

    def run(self, plan: ExtractionPlan) -> None:
        """Go on until all is done or failed, or the work has to stop; see `run_on_cluster`."""
        try:
            self._waiting.extend(make_orders(plan, self._wait_for_workers()))
            while (self._waiting or self._running) and not self._summary.stopped:
                self._submit()
                self._collect()
                if time.monotonic() - self._looked_after > LOOK_S:
                    self._look()
                    self._look_after_orders()
        except KeyboardInterrupt:
            self._summary.stopped = Stop.interrupted()
        except Exception:
            if self._client.status not in GONE:
                raise
            self._summary.stopped = Stop("cluster failed", LOST)
        finally:
            if self._client.status == "running":
                self._client.cancel(list(self._running))
                self._client.unsubscribe_topic(self._topic)

    # workers

    def _wait_for_workers(self) -> int:
        """How many workers there will be, or are there; waits for the first where nobody knows."""
        self._look()
        while not (self._roster.n_expected() or self._summary.stopped):
            time.sleep(LOOK_S / 4)
            self._look()
        return max(1, self._roster.n_expected())

    def _look(self) -> None:
        self._client.subscribe_topic(self._topic, self._follower.hear)  # anew: the scheduler may have been started anew
        had_work = list(self._follower.at_work)  # before the look: none of them comes after it
        trouble = self._roster.look()
        if trouble and not self._summary.stopped:
            self._summary.stopped = Stop("cluster failed", trouble)
        there = {self._follower.lives.get(worker) for worker in self._roster.workers}
        for life in had_work:
            if life not in there:
                self._bury(life)

    def _look_after_orders(self) -> None:
        """Take back orders that no worker can take any more, and those of workers that hang."""
        try:
            processing = self._client.processing().items()
        except OSError:  # the scheduler is away: `_look` waits for it
            return
        own = {future.key for future in self._running}  # workers may have work of others, too
        keys_of = {address: mine for address, keys in processing if (mine := own.intersection(keys))}
        taken = {key for keys in keys_of.values() for key in keys}
        for future in list(self._running):
            if future.status == "pending" and future.key not in taken and self._roster.is_stranded(self._bound[future]):
                self._waiting.appendleft(self._withdraw(future))
        self._restart_hanging(keys_of)

    def _restart_hanging(self, keys_of: Mapping[str, Collection[Any]]) -> None:
        """Start workers anew that have work and say nothing; what they were at is tried again, or split."""
        now = time.monotonic()
        since = {} if now - self._looked_after > PAUSE_S else self._busy_since  # after Ctrl-Z nobody has heard anything
        self._looked_after = now
        self._busy_since = {address: since.get(address, now) for address in keys_of}
        hanging = [
            address
            for address, busy in self._busy_since.items()
            if now - max(busy, self._follower.heard_s(address)) > self._cluster.stall_s
        ]
        why = f"its worker hung: it said nothing for {self._cluster.stall_s:.0f} s"
        for address in hanging:
            for future, order in self._blamed(address, keys_of[address]).items():
                self._withdraw(future)
                self._try_again(order, address, why, "hang")
            self._busy_since.pop(address)
        if hanging:
            self._restart(hanging)

    def _blamed(self, address: str, keys: Collection[Any]) -> dict[Future, Order]:
        """Of the orders that a hanging worker has, the one it is at; all if that is not known, none if it may not begin."""
        held = {future: order for future, order in self._running.items() if future.key in keys}
        at_work = self._follower.at_work.get(self._life(address))
        blamed = {future: order for future, order in held.items() if order.name == at_work}
        return blamed or ({} if self._roster.is_paused(address) else held)

    def _restart(self, workers: list[str]) -> None:
        self._buried.update(self._life(worker) for worker in workers)
        self._roster.restart(workers, self._topic)

    def _life(self, worker: str) -> str:
        return self._follower.lives.get(worker, "")

    # orders

    def _submit(self) -> None:
        n_fit = len(self._roster.fit())
        while self._waiting and len(self._running) < ORDERS_AHEAD * n_fit:
            order = self._waiting.popleft()
            bound = self._roster.bind(order)
            future = self._client.submit(
                extract_videos,
                self._options,
                order,
                self._topic,
                key=f"abaw-extract-{uuid.uuid4().hex}",
                resources={"GPU": 1} if bound.gpu else None,
                workers=bound.only or None,
            )
            self._running[future] = order
            self._bound[future] = bound

    def _collect(self) -> None:
        """Wait for a moment, and take down what has ended."""
        if not self._running:
            time.sleep(LOOK_S / 4)
            return
        with suppress(TimeoutError, CancelledError):
            wait(list(self._running), timeout=LOOK_S, return_when="FIRST_COMPLETED")
        for future in [future for future in self._running if future.status != "pending"]:
            result = self._fetch(future)
            if result is None and self._summary.stopped:
                break
            if future.status != "pending":  # else the result could not be had, and dask may let others make it again
                self._take(future, result)

    def _fetch(self, future: Future) -> JobResult | None:
        """Result of an order that is done; none if it failed, or the worker that has it is gone or hangs."""
        if future.status != "finished":
            return None
        try:
            result = future.result(timeout=FETCH_S)
        except Exception as error:
            if future.status == "finished" and not isinstance(error, OSError):
                raise
            self._n_unfetched += 1
            if self._n_unfetched > UNFETCHED + len(self._roster.workers):
                addresses = ", ".join(list(self._roster.workers)[:3])
                self._summary.stopped = Stop(
                    "cluster failed",
                    f"results cannot be fetched: see that the scheduler reaches its workers ({addresses}), and {AGAIN}",
                )
            return None
        self._n_unfetched = 0
        return result

    def _withdraw(self, future: Future) -> Order:
        """Take an order out of those that run."""
        del self._bound[future]
        if future.status == "pending":
            future.cancel()
        return self._running.pop(future)

    def _take(self, future: Future, result: JobResult | None) -> None:
        error = future.exception() if future.status == "error" else None
        if isinstance(error, KilledWorker) and future in self._running:
            self._after_deaths(future, error.last_worker.address)
        if future not in self._running:  # it has been given up
            return
        order = self._withdraw(future)
        if result:
            self._take_result(result, order)
        elif isinstance(error, Withdrawn):  # by a worker that was about to leave
            self._buried.update(error.args)
            self._waiting.appendleft(order)
        elif error is not None and not isinstance(error, KilledWorker):
            self._try_again(order, "", f"{type(error).__name__}: {error}")
        else:  # to be done again, or found done where its worker hangs with the result; or the connection was lost
            self._waiting.appendleft(order)

    def _take_result(self, result: JobResult, order: Order) -> None:
        if result.unfit:
            if result.worker not in self._roster.unfit:
                self._reporter.warn(f"Worker {result.worker} cannot do this: {result.unfit}")
            self._roster.unfit[result.worker] = result.unfit
            self._waiting.appendleft(order)
        elif result.error:
            if result.summary.device_failed:
                self._restart([result.worker])
            self._try_again(order, result.worker, result.error)
        else:
            self._summary.add(result.summary)

    def _after_deaths(self, future: Future, worker: str) -> None:
        """dask gives an order up that workers had when they died; they may have been at another one."""
        name = self._running[future].name
        self._n_returns[name] += 1
        if self._n_returns[name] >= RETURNS:
            self._blame(future)
            return
        self._bury(self._life(worker), future)
        self._look()  # for those that died before that one: once the order is withdrawn, they would not count

    def _bury(self, life: str, otherwise: Future | None = None) -> None:
        """Blame the death of a worker on the order that it was at, or on another one where it never said a word."""
        if life and life in self._buried:
            return
        self._buried.add(life)
        at_work = self._follower.at_work.get(life)
        known = (future for future, order in self._running.items() if order.name == at_work)
        blamed = next(known, None if life else otherwise)
        if blamed is not None and blamed.status != "finished":  # it died after that one
            self._blame(blamed)

    def _blame(self, future: Future) -> None:
        name = self._running[future].name
        self._n_deaths[name] += 1
        if self._n_deaths[name] >= self._cluster.deaths:  # dask has others do it again until then
            why = "each worker that had it died, perhaps for want of memory; see the workers' logs"
            self._give_up(self._withdraw(future), why, "die")

    def _try_again(self, order: Order, worker: str, why: str, early: str = "") -> None:
        """Let other workers try an order that failed on one; its videos alone where it has several."""
        order = order.after_failure(worker)
        if len(order.videos) == 1 and len(order.failed_on) < TRIES:
            self._waiting.append(order)
        else:
            self._give_up(order, why, early)

    def _give_up(self, order: Order, why: str, early: str = "") -> None:
        """Try the videos of an order one by one; a video that was tried alone fails.

        Args:
            early: what all workers do that are at fault themselves, where that may be.
        """
        if early and not (self._follower.n_shown or self._summary.done):  # sounds without crops show no frames
            self._n_early += 1
            if self._n_early >= EARLY:
                self._summary.stopped = Stop(
                    "cluster failed",
                    f"workers {early} before they finish a frame; see their logs and their memory, and {AGAIN}",
                )
        if len(order.videos) > 1:
            self._follower.forget(order.name)
            self._waiting.extend(order.split())
        elif not self._summary.stopped:
            self._summary.failed[order.videos[0]] = why
