"""Where the time of an extraction goes: seconds that its main thread waited for each part."""

from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter
from typing import TypeVar

from abaw.core.progress import Reporter

Item = TypeVar("Item")

SHORT_S = 1.0  # the parts of a run that was over sooner do not matter
DECODE, DETECT, NETWORK, WRITE = "decode", "detect", "network", "write"


class Waits:
    """Counts the seconds that one thread waits for each part. Time of a part within another counts for the inner one.

    Attributes:
        seconds: by part.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inner_s: list[float] = []  # seconds of parts within each part that is being waited for

    @contextmanager
    def waiting_for(self, part: str) -> Iterator[None]:
        """The time inside counts for a part."""
        begin = perf_counter()
        self._inner_s.append(0.0)
        try:
            yield
        finally:
            elapsed_s = perf_counter() - begin
            self.seconds[part] = self.seconds.get(part, 0.0) + elapsed_s - self._inner_s.pop()
            if self._inner_s:
                self._inner_s[-1] += elapsed_s

    def each(self, part: str, items: Iterable[Item]) -> Generator[Item, None, None]:
        """The items; the time that each takes to come counts for a part."""
        iterator, end = iter(items), object()
        while True:
            with self.waiting_for(part):
                item = next(iterator, end)
            if item is end:
                return
            yield item  # type: ignore[misc]  # not the end


def describe_shares(seconds: Mapping[str, float]) -> str:
    """Shares of the time, the largest first, such as `network 97 %, decode 3 %`; parts below 0.5 % are left out.

    Args:
        seconds: by part.
    """
    total = sum(seconds.values())
    shares = {part: 100 * part_s / total for part, part_s in seconds.items()} if total else {}
    ordered = sorted(shares.items(), key=lambda item: -item[1])
    return ", ".join(f"{part} {share:.0f} %" for part, share in ordered if share >= 0.5)


def report_waits(seconds: Mapping[str, float], reporter: Reporter) -> None:
    """Say after a run where its time went, unless it was over at once."""
    if sum(seconds.values()) >= SHORT_S:
        reporter.log(f"Time by part: {describe_shares(seconds)}.")
