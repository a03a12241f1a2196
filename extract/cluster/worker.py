"""What a worker of a dask cluster does: it takes orders, and tells the driver how far it is."""

import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache

from distributed import Status, get_worker
from distributed.utils import sync

from abaw.core.errors import AbawError
from abaw.core.progress import Summary
from abaw.extract.cluster.jobs import Order
from abaw.extract.request import ExtractOptions
from abaw.extract.stage import Stage

EVENT_S = 0.5  # between two reports
TOLD_S = 5.0  # that the scheduler may take to know of an order; the work begins then, known or not
_AT_WORK = threading.Lock()  # a worker may have several threads, but its networks are there once


@dataclass(frozen=True)
class JobResult:
    """What became of an order.

    Attributes:
        worker: address of the worker.
        summary: what was done.
        unfit: why this worker cannot do such work at all, as one that does not see the data; empty if it can.
        error: what went wrong with the order as a whole; empty if nothing did.
    """

    worker: str
    summary: Summary = field(default_factory=Summary)
    unfit: str = ""
    error: str = ""


class Withdrawn(Exception):
    """Nobody wants the order any more (the driver died, was interrupted, or gave it away), or its worker is closing.

    Its argument is the worker's process, as in its reports.
    """


@lru_cache(maxsize=1)
def opened_stage(options: ExtractOptions, topic: str) -> Stage:
    """The stage of this process, opened once for all orders of a driver.

    Another driver with the same options has it opened again: the data, the weights or the store may have changed.
    """
    return Stage.open(options)


class Teller:
    """Tells the driver how far an order is, and notices that it is not wanted any more."""

    def __init__(self, order: str, topic: str) -> None:
        self._worker, self._order, self._topic = get_worker(), order, topic
        self._key = self._worker.get_current_task()
        self._n_frames = self._n_said = 0
        self._said = 0.0

    def begin(self) -> None:
        """Say that the order begins, and wait until the scheduler knows: the work may kill this process at once.

        Raises:
            Withdrawn: nobody waits for the order.
        """
        self._check()
        with suppress(OSError):
            tell = self._worker.scheduler.log_event
            sync(self._worker.loop, tell, topic=self._topic, msg=self._report(begins=True), callback_timeout=TOLD_S)
        self._said = time.monotonic()

    def advance(self, n: int) -> None:
        """Some more frames are through.

        Raises:
            Withdrawn: nobody waits for the order.
        """
        if n:  # several threads say 0, one counts
            self._n_frames += n
        self._check()
        if time.monotonic() - self._said > EVENT_S:
            self.say()

    def _check(self) -> None:
        task = self._worker.state.tasks.get(self._key)
        if task is None or task.state == "cancelled" or self._worker.status in (Status.closing, Status.closed):
            raise Withdrawn(self._worker.id)

    def say(self) -> None:
        """Say it now."""
        self._worker.log_event(self._topic, self._report())
        self._n_said, self._said = self._n_frames, time.monotonic()

    def _report(self, begins: bool = False) -> dict[str, str | int]:
        worker = {"worker": self._worker.address, "life": self._worker.id}  # a new process may have the old address
        frames = {"frames": self._n_frames, "new": self._n_frames - self._n_said}
        return {**worker, "order": self._order, "begins": begins, **frames}


def extract_videos(options: ExtractOptions, order: Order, topic: str) -> JobResult:
    """Do an order; videos that another worker has finished since it was made are left as they are.

    Args:
        topic: where the driver listens.
    """
    address = get_worker().address
    with _AT_WORK:
        teller = Teller(order.name, topic)
        teller.begin()
        try:
            stage = opened_stage(options, topic)
        except Exception as error:  # as of CUDA, or of a disk: others may be better off
            return JobResult(address, unfit=_sentence(error))
        lost = set(order.videos).difference(video.name for video in stage.dataset.videos)
        if lost:
            return JobResult(address, unfit=f"there is no video {min(lost)!r} in {options.data}.")
        summary = Summary()
        try:
            stage.run({order.pending: order.videos}, summary, teller.advance)
        except Withdrawn:
            raise
        except Exception as error:
            return JobResult(address, error=_sentence(error))
        if summary.stopped and summary.device_failed:
            return JobResult(address, summary, error=summary.stopped.sentence)
        teller.say()
    # a worker that died had finished them: this run did it
    summary.done, summary.skipped = summary.done + summary.skipped, []
    return JobResult(address, summary)


def _sentence(error: Exception) -> str:
    return str(error) if isinstance(error, AbawError) else f"{type(error).__name__}: {error}"
