"""Pieces of work for the workers of a cluster."""

from dataclasses import dataclass, replace

from abaw.core.parts import split_evenly
from abaw.extract.plan import ExtractionPlan

ORDERS_PER_WORKER = 8  # more even out the end, fewer fill batches better
FRAMES_PER_ORDER = 20_000  # at most, but for a longer video: what is lost when a worker dies


@dataclass(frozen=True)
class Order:
    """Work for a worker.

    Attributes:
        name: unique among the orders of a driver.
        pending: the features that the videos lack.
        videos: their names.
        failed_on: workers that tried it in vain.
    """

    name: str
    pending: tuple[str, ...]
    videos: tuple[str, ...]
    failed_on: tuple[str, ...] = ()

    def after_failure(self, worker: str) -> "Order":
        """The same, tried once more in vain."""
        return replace(self, failed_on=(*self.failed_on, worker))

    def split(self) -> list["Order"]:
        """An order for each of the videos."""
        return [Order(f"{self.name}/{video}", self.pending, (video,)) for video in self.videos]


def make_orders(plan: ExtractionPlan, n_workers: int) -> list[Order]:
    """The work in pieces of about equal numbers of frames, the largest videos first."""
    frames_per_order = max(1, min(FRAMES_PER_ORDER, plan.n_crops // (n_workers * ORDERS_PER_WORKER)))
    orders: list[Order] = []
    for pending, sizes in plan.groups.items():
        n_orders = min(len(sizes), max(1, -(-sum(sizes.values()) // frames_per_order)))
        dealt = [tuple(names) for names in split_evenly(sizes, n_orders) if names]
        orders += [Order(f"{len(orders) + number}", pending, names) for number, names in enumerate(dealt)]
    return orders
