"""Workers on this machine come back, however slowly they begin anew, and tell why where they cannot."""

import os
import signal
import threading
from contextlib import contextmanager

import pytest
from distributed import Client

from abaw.extract.local import FAILED_STARTS, LocalWorkers
from abaw.tests.processes import DEADLINE_S, until

# Put into the Python of each worker: what the file `orders` says happens to those that start.
SITE = """
import os, pathlib, sys, time

def fail(event, arguments):
    if event == "os.mkdir" and "dask-scratch" in str(arguments[0]):
        if said == "fail once":
            orders.unlink()
        raise OSError("the disk is away")

orders = pathlib.Path(__file__).with_name("orders")
if "spawn_main" in " ".join(sys.orig_argv) and orders.exists():
    said = orders.read_text()
    orders.with_name("starts").open("a").write("x")
    if said in ("sleep", "hang"):
        time.sleep(17 if said == "sleep" else 3600)
    else:
        sys.addaudithook(fail)
"""


@pytest.fixture
def killed(process_env, monkeypatch, tmp_path):
    """`killed(orders)`: a cluster whose only worker has just been killed, and begins anew by these orders."""
    (tmp_path / "sitecustomize.py").write_text(SITE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), process_env["PYTHONPATH"]]))
    monkeypatch.setenv("DASK_TEMPORARY_DIRECTORY", str(tmp_path))

    @contextmanager
    def killed(orders):
        with LocalWorkers(n_workers=1, threads=1, gpus=()) as cluster, Client(cluster) as client:
            (process,) = client.run(os.getpid).values()
            (tmp_path / "orders").write_text(orders)
            os.kill(process, signal.SIGKILL)
            until(lambda: not cluster.scheduler.workers, "the worker is gone")
            yield cluster

    return killed


@pytest.mark.parametrize("orders", ["sleep", "fail once"])
def test_a_worker_comes_back_late_or_at_the_second_try(killed, orders, tmp_path):
    with killed(orders) as cluster:
        until(lambda: cluster.scheduler.workers, "the worker is back")
        assert cluster.trouble() == ""
    assert (tmp_path / "starts").read_text() == "x", "the slow one was waited for"


def test_workers_that_cannot_be_started_again_are_told_of(killed):
    with killed("fail") as cluster:
        until(cluster.trouble, "the cluster gives up")
        assert cluster.trouble() == f"{FAILED_STARTS} workers in a row could not be started (the disk is away)"
        assert not cluster.scheduler.workers


def test_a_worker_that_hangs_while_it_starts_holds_nobody_up_at_the_end(killed, tmp_path):
    with killed("hang") as cluster:
        until((tmp_path / "starts").exists, "the next one starts")
        closing = threading.Thread(target=cluster.close, daemon=True)
        closing.start()
        closing.join(DEADLINE_S)
        assert not closing.is_alive()


def test_nobody_but_the_driver_decides_that_a_worker_hangs():
    """By default dask does, too: after Ctrl-Z for five minutes it takes all workers for dead."""
    with LocalWorkers(n_workers=1, threads=1, gpus=()) as cluster:
        assert cluster.scheduler.worker_ttl is None
