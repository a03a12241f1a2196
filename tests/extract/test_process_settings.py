"""Settings that hold for the whole process: each holds within its block, and is undone after it."""

import gc
import logging
import signal
import subprocess
import sys

import dask
import pytest
from distributed import Scheduler, SpecCluster, Worker

from abaw.core.errors import UsageError
from abaw.extract.cluster.cluster import ClusterOptions, LocalCluster, connected, started
from abaw.extract.cluster.process_settings import abandoned_waits_silenced, dask_settings, interrupt_handler_kept

CHANGED = ("distributed.scheduler.worker-ttl", "distributed.worker.profile.enabled")


def test_dask_is_configured_while_a_cluster_runs():
    before = [dask.config.get(name) for name in CHANGED]
    assert None not in before and False not in before
    with dask_settings(600):
        assert [dask.config.get(name) for name in CHANGED] == [None, False]
        assert dask.config.get("distributed.deploy.lost-worker-timeout") == 600
    assert [dask.config.get(name) for name in CHANGED] == before
    assert dask.config.get("distributed.deploy.lost-worker-timeout") == "15s"


def test_a_cluster_that_does_not_start_leaves_dask_as_it_was(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    before = dask.config.get(CHANGED[0])
    with pytest.raises(UsageError, match="no GPU 7"), started(LocalCluster(gpus=(7,))):
        pass
    assert dask.config.get(CHANGED[0]) == before


def test_an_error_that_nobody_waits_for_any_more_is_not_logged(caplog):
    gc.collect()
    caplog.clear()
    filters = list(logging.getLogger("asyncio").filters)
    scheduler = {"cls": Scheduler, "options": {"dashboard_address": ":0"}}
    workers = {0: {"cls": Worker, "options": {"nthreads": 1, "memory_limit": 0}}}
    with SpecCluster(workers, scheduler) as cluster, connected(ClusterOptions(cluster.scheduler_address)) as here:
        fail_late(here.client)
        logging.getLogger("asyncio").error("This is logged", exc_info=OSError())
    gc.collect()  # errors that were not retrieved are logged here
    assert [record.message for record in caplog.records if record.name == "asyncio"] == ["This is logged"]
    assert logging.getLogger("asyncio").filters == filters


def fail_late(client):
    """Give up waiting for a result, which fails afterwards."""
    import time

    future = client.submit(lambda: time.sleep(0.5) or 1 / 0)
    with pytest.raises(TimeoutError):
        future.result(timeout=0.1)
    with pytest.raises(ZeroDivisionError):
        future.result()


def test_filters_of_blocks_that_overlap_are_each_their_own():
    logger = logging.getLogger("asyncio")
    n_before = len(logger.filters)
    first, second = abandoned_waits_silenced(), abandoned_waits_silenced()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert len(logger.filters) == n_before + 1
    second.__exit__(None, None, None)
    assert len(logger.filters) == n_before


def test_an_import_that_replaces_the_handler_of_interrupts():
    def ours(*_):
        raise AssertionError

    before = signal.signal(signal.SIGINT, ours)
    try:
        with interrupt_handler_kept():
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        assert signal.getsignal(signal.SIGINT) is ours
        with pytest.raises(ImportError), interrupt_handler_kept():
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            raise ImportError
        assert signal.getsignal(signal.SIGINT) is ours
    finally:
        signal.signal(signal.SIGINT, before)


def test_slurm_leaves_interrupts_as_they_are(process_env):
    pytest.importorskip("dask_jobqueue", reason="needs the packages of the extra `slurm`")
    code = (
        "import signal; before = signal.getsignal(signal.SIGINT); import abaw.extract.cluster.slurm; "
        "print(signal.getsignal(signal.SIGINT) is before)"
    )
    run = subprocess.run([sys.executable, "-c", code], env=process_env, capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["True"]
