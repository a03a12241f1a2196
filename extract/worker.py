"""What a worker of a dask cluster does: it takes orders, and tells the driver how far it is."""

import threading
import time
from dataclasses import dataclass, field, replace
from functools import lru_cache

from distributed import get_worker

from abaw.errors import AbawError
from abaw.extract.request import ExtractOptions
from abaw.extract.sink import Summary
from abaw.extract.stage import Stage

EVENT_S = 0.5  # between two reports
_AT_WORK = threading.Lock()  # a worker may have several threads, but its networks are there once


@dataclass(frozen=True)
class Order:
    """Work for a worker.

    Attributes:
        name: unique among the orders of a driver.
        pending: the features that the videos lack.
        videos: their names.
        n_failures: how often it was tried in vain.
    """

    name: str
    pending: tuple[str, ...]
    videos: tuple[str, ...]
    n_failures: int = 0

    def after_failure(self) -> "Order":
        """The same, tried once more in vain."""
        return replace(self, n_failures=self.n_failures + 1)

    def split(self) -> list["Order"]:
        """An order for each of the videos."""
        return [Order(f"{self.name}/{video}", self.pending, (video,)) for video in self.videos]


@dataclass(frozen=True)
class Result:
    """What became of an order.

    Attributes:
        worker: address of the worker.
        summary: what was done.
        unfit: why this worker cannot do such work at all, as one that does not see the data; empty if it can.
    """

    worker: str
    summary: Summary = field(default_factory=Summary)
    unfit: str = ""


@lru_cache(maxsize=1)
def opened_stage(options: ExtractOptions) -> Stage:
    """The stage of this process, opened once for all orders."""
    return Stage.open(options)


def extract_videos(options: ExtractOptions, order: Order, topic: str) -> Result:
    """Do an order; videos that another worker has finished since it was made are left as they are.

    Args:
        topic: where the driver listens.
    """
    worker = get_worker()
    address = worker.address
    n_frames, n_said, said = 0, 0, 0.0

    def tell(n: int) -> None:
        nonlocal n_frames
        n_frames += n
        if time.monotonic() - said > EVENT_S:
            say()

    def say() -> None:
        nonlocal n_said, said
        report = {"worker": address, "order": order.name, "frames": n_frames, "new": n_frames - n_said}
        n_said, said = n_frames, time.monotonic()
        worker.log_event(topic, report)

    with _AT_WORK:
        say()
        try:
            stage = opened_stage(options)
        except AbawError as error:
            return Result(address, unfit=str(error))
        summary = Summary()
        stage.run({order.pending: order.videos}, summary, tell)
        say()
    # a worker that died had finished them: this run did it
    summary.done, summary.skipped = summary.done + summary.skipped, []
    return Result(address, summary)
