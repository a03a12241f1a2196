"""Settings that hold for the whole process, and that a cluster needs: each holds within a block, and is undone after it."""

import gc
import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import dask
from distributed.client import AllExit

MAX_LOCAL_DEATHS = 2  # of workers at a job: processes of one machine are not taken away, the job is to blame
OWN_CLUSTER = {
    # the driver restarts workers that hang; dask would, after Ctrl-Z for five minutes, take all of them for dead
    "distributed.scheduler.worker-ttl": None,
    # after the next death, dask returns the job to the driver
    "distributed.scheduler.allowed-failures": MAX_LOCAL_DEATHS - 1,
    # dask profiles itself a hundred times a second, for a page that nobody opens, at the expense of the networks
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "500 ms",
}


@contextmanager
def dask_settings(lost_worker_s: float) -> Iterator[None]:
    """Set dask's configuration for a cluster that this process starts; the cluster must end within the block.

    Args:
        lost_worker_s: seconds after which dask gives up a worker that has left.
    """
    with dask.config.set(OWN_CLUSTER | {"distributed.deploy.lost-worker-timeout": lost_worker_s}):
        yield


@contextmanager
def abandoned_waits_silenced() -> Iterator[None]:
    """Keep dask from logging an error for each result that nobody waits for any more."""
    hidden = _AbandonedWaits()
    logger = logging.getLogger("asyncio")
    logger.addFilter(hidden)
    try:
        yield
    finally:
        gc.collect()  # the errors are logged when what raised them is collected
        logger.removeFilter(hidden)


class _AbandonedWaits(logging.Filter):
    """Drops what asyncio logs of dask's `AllExit`; one instance for each block, so that blocks may overlap."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and record.exc_info[0] is AllExit)


@contextmanager
def interrupt_handler_kept() -> Iterator[None]:
    """Restore the handler of Ctrl-C that the block replaces.

    Importing dask-jobqueue sets one by which Ctrl-C ends the process without a message and as a success.
    """
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if handler is not None and signal.getsignal(signal.SIGINT) is not handler:
            signal.signal(signal.SIGINT, handler)
