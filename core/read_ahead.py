"""Computing results ahead of their use in several threads, such as requests to a remote store or frames to decode."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_ahead(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    n_threads: int,
    n_ahead: int | None = None,
    size: Callable[[Item], int] = lambda item: 1,
) -> Generator[Result, None, None]:
    """Yield `function(item)` in the order of the items, computing the next ones ahead in threads.

    With one thread each result is computed on demand. An error is raised where its result would be yielded. When the
    caller closes the iterator, it waits for running calls and drops the others.

    Args:
        n_ahead: total size of the items that are computed ahead; `n_threads` by default.
        size: of an item.
    """
    if n_threads < 2:
        yield from map(function, items)
        return
    n_ahead = n_threads if n_ahead is None else n_ahead
    waiting: deque[tuple[Future[Result], int]] = deque()
    n_waiting = 0
    pool = ThreadPoolExecutor(n_threads)
    try:
        for item in items:
            waiting.append((pool.submit(function, item), size(item)))
            n_waiting += waiting[-1][1]
            while n_waiting > n_ahead:
                future, n_done = waiting.popleft()
                n_waiting -= n_done
                yield future.result()
        while waiting:
            yield waiting.popleft()[0].result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def next_ahead(items: Iterable[Item]) -> Generator[Item, None, None]:
    """The same items, each computed in a thread of its own while the one before it is in use.

    An error is raised where its item would be yielded. When the caller closes the iterator, it waits for the running item.
    """
    iterator, end = iter(items), object()
    pool = ThreadPoolExecutor(1)
    try:
        coming = pool.submit(next, iterator, end)
        while (item := coming.result()) is not end:
            coming = pool.submit(next, iterator, end)
            yield item  # type: ignore[misc]  # not the end
    finally:
        pool.shutdown(wait=True)
