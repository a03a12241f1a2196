"""Drawing in several processes."""

import multiprocessing
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import TypeVar

Item = TypeVar("Item")


def write_in_parallel(
    write: Callable[[Path, Item], int], root: Path, items: Iterable[Item], n_workers: int, report: Callable[[int], None]
) -> None:
    """Call `write(root, item)` for each item in several processes, starting them in this order.

    Args:
        write: a function of a module; returns the number of frames that it drew.
        report: called with that number whenever an item is done.
    """
    # Forking a process that already runs threads (PyTorch, BLAS) can hang it; a spawned one starts clean.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(n_workers, mp_context=context) as pool:
        futures = [pool.submit(write, root, item) for item in items]
        try:
            for future in as_completed(futures):
                report(future.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
