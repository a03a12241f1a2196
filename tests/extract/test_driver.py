"""The driver of a cluster and its view of the workers: those that are lost, paused, unfit, unreachable or broken."""

import gc
import os
import socket
import threading
from contextlib import contextmanager
from multiprocessing import forkserver
from typing import ClassVar

import dask
import psutil
import pytest
from distributed import Client, Future, Nanny, Scheduler, SpecCluster, Status, Worker

from abaw.core.errors import UsageError
from abaw.core.progress import Summary
from abaw.extract.cluster.cluster import LOST_WORKER_S, Cluster, LocalCluster, started
from abaw.extract.cluster.driver import Driver
from abaw.extract.cluster.jobs import Job
from abaw.extract.cluster.process_settings import abandoned_waits_silenced, dask_settings
from abaw.extract.cluster.worker_progress import WorkerProgress
from abaw.extract.cluster.workers import Placement, Workers
from abaw.extract.stage import Stage
from abaw.pipeline import ExtractOptions, extract
from abaw.tests.support.processes import Watcher, assert_equal_stores, until

N_VIDEOS = 20


@pytest.fixture(scope="module")
def preloaded(process_env):
    """Workers that this process starts are forked from one that has loaded their modules, as that takes them seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", process_env["PYTHONPATH"])
        forkserver.set_forkserver_preload(["distributed", "abaw.extract.cluster.worker"])
        forkserver.ensure_running()
    with dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}):
        yield


def test_no_worker_comes(slow_data, tmp_path):
    stage, summary = Stage.open(ExtractOptions(slow_data, tmp_path / "store.zarr", ("hog",), device="cpu")), Summary()
    scheduler = {"cls": Scheduler, "options": {"dashboard_address": ":0"}}
    with SpecCluster(scheduler=scheduler) as cluster, Client(cluster) as client:
        Driver(stage, Cluster(client, patience_s=1), summary, Watcher()).run(stage.plan(summary))
    assert summary.stopped and summary.stopped.sentence == (
        "no workers are connected, for 1 s now; check the cluster (a worker that cannot import abaw leaves at once), and "
        "run the same command again"
    )


class LateFuture(Future):
    """A future that suspends or kills the worker that has its result, and only then asks for it.

    Attributes:
        strikes: methods of `psutil.Process` that are still to be called, each on another process.
        struck: numbers of the processes.
    """

    strikes: ClassVar[list[str]] = []
    struck: ClassVar[list[int]] = []

    def result(self, timeout=None):
        if self.strikes and self.status == "finished":
            (holders,) = self.client.who_has([self]).values()
            (process,) = self.client.run(os.getpid, workers=holders).values()
            if process not in self.struck:
                self.struck.append(process)
                getattr(psutil.Process(process), self.strikes.pop(0))()
        return super().result(timeout)


class LateClient(Client):
    """A client whose futures are late."""

    def submit(self, *args, **options):
        future = super().submit(*args, **options)
        future.__class__ = LateFuture
        return future


def test_workers_that_are_lost_before_their_results_are_fetched(
    slow_data, slow_store, preloaded, monkeypatch, caplog, tmp_path
):
    monkeypatch.setattr(LateFuture, "strikes", ["suspend", "kill"])
    monkeypatch.setattr(LateFuture, "struck", [])
    store, summary = tmp_path / "store.zarr", Summary()
    stage = Stage.open(ExtractOptions(slow_data, store, ("hog",), device="cpu"))
    gc.collect()
    caplog.clear()
    with (
        abandoned_waits_silenced(),
        started(LocalCluster(workers=2)) as workers,
        LateClient(workers) as client,
    ):
        driver = Driver(stage, Cluster(client, n_workers=2, stall_s=8), summary, Watcher(), fetch_s=1.0)
        driver.run(stage.plan(summary))
        assert len(LateFuture.struck) == 2
        assert not any(map(psutil.pid_exists, LateFuture.struck)), "they were restarted"
    assert summary.ok and len(summary.done) == N_VIDEOS
    assert_equal_stores(store, slow_store)
    assert [record.message for record in caplog.records if record.name == "asyncio"] == []


@contextmanager
def one_worker(**options):
    """A cluster with one worker of dask's own kind, which may take long to restart."""
    scheduler = {"cls": Scheduler, "options": {"dashboard_address": ":0"}}
    workers = {0: {"cls": Nanny, "options": {"nthreads": 1, **options}}}
    with dask_settings(LOST_WORKER_S), SpecCluster(workers, scheduler, silence_logs="critical") as cluster:
        yield cluster


def test_results_that_cannot_be_fetched(slow_data, preloaded, tmp_path):
    """Workers reach the scheduler, and it does not reach them: as behind a firewall."""
    stage, summary = Stage.open(ExtractOptions(slow_data, tmp_path / "store.zarr", ("hog",), device="cpu")), Summary()
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        address = f"tcp://127.0.0.1:{deaf.getsockname()[1]}"
        with one_worker(contact_address=address) as cluster, Client(cluster) as client:
            Driver(stage, Cluster(client), summary, Watcher(), fetch_s=0.1).run(stage.plan(summary))
    assert summary.stopped and summary.stopped.sentence == (
        f"results cannot be fetched: see that the scheduler reaches its workers ({address}), and run the same command again"
    )


def test_workers_that_dask_has_paused(slow_data, preloaded, tmp_path):
    memory = {"pause": 0.5, "terminate": False, "spill": False, "target": False}
    memory = {f"distributed.worker.memory.{limit}": value for limit, value in memory.items()}
    stage, summary = Stage.open(ExtractOptions(slow_data, tmp_path / "store.zarr", ("hog",), device="cpu")), Summary()
    with (
        dask.config.set(memory),
        one_worker(memory_limit="100MB", preload=["abaw.extract.cluster.worker"]) as cluster,
        Client(cluster) as client,
    ):
        until(
            lambda: all(worker.status == Status.paused for worker in cluster.scheduler.workers.values()), "it is paused"
        )
        Driver(stage, Cluster(client, patience_s=1), summary, Watcher()).run(stage.plan(summary))
    assert summary.stopped and summary.stopped.sentence == (
        "dask has paused the workers for want of memory, for 1 s now; start them with --memory-limit 0, and run the same command again"
    )
    assert not summary.done and not summary.failed


BROKEN = """
import torch
from abaw.extract.runner import Runner

broken = []
Runner.plain = getattr(Runner, "plain", Runner._forward)  # dask imports this twice

def forward(self, batch):
    if any(source.name == "video-02" for source, _ in batch.parts):
        broken.append(True)
    if broken:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
    return self.plain(batch)

Runner._forward = forward
"""


def test_a_video_that_breaks_the_gpu_of_its_process(slow_data, slow_store, preloaded, tmp_path):
    """Whatever the process asks of the GPU fails from then on: it is started anew, and other videos do not suffer."""
    (tmp_path / "broken.py").write_text(BROKEN)
    store, summary = tmp_path / "store.zarr", Summary()
    stage = Stage.open(ExtractOptions(slow_data, store, ("hog",), device="cpu", batch_size=8))
    preload = ["abaw.extract.cluster.worker", str(tmp_path / "broken.py")]
    with one_worker(memory_limit=0, preload=preload) as cluster, Client(cluster) as client:
        Driver(stage, Cluster(client, 1), summary, Watcher()).run(stage.plan(summary))
    why = "the device failed (CUDA error: an illegal memory access was encountered); run the same command again to continue"
    assert summary.failed == {"video-02": why}
    assert len(summary.done) == N_VIDEOS - 1 and not summary.stopped
    assert extract(ExtractOptions(slow_data, store, ("hog",), device="cpu", batch_size=8)).ok
    assert_equal_stores(store, slow_store)


def in_this_process(n_workers, **options):
    """A cluster whose workers are threads of this process."""
    scheduler = {"cls": Scheduler, "options": {"dashboard_address": ":0"}}
    worker = {"cls": Worker, "options": {"nthreads": 1, "memory_limit": 0, **options}}
    return SpecCluster(dict.fromkeys(range(n_workers), worker), scheduler)


def test_which_workers_can_do_the_work():
    with in_this_process(1, resources={"GPU": 0.5}) as cluster, Client(cluster) as client:
        progress = WorkerProgress(Watcher())
        workers = Workers(Cluster(client, n_workers=2), progress)
        assert workers.refresh() == ""
        (address,) = workers.connected
        assert workers.placement_of(Job("0", ("hog",), ("v",))) == Placement(gpu=False), "half a GPU does not count"
        assert workers.exclude(address, "it sees nothing") and not workers.exclude(address, "it sees nothing")
        assert workers.exclude("tcp://before-it-restarted:1", "it saw nothing")
        assert workers.refresh() == "", "the second worker may be about to restart"
        alone = Workers(Cluster(client), progress)
        alone.exclude(address, "it sees nothing")
        with pytest.raises(UsageError, match=rf"No worker of the cluster can do this; {address} says: it sees nothing"):
            alone.refresh()
        report = {"worker": "tcp://that-died:1", "process": "1", "job": "0", "begins": True, "frames": 0, "new": 0}
        progress.take((0.0, report))
        assert alone.refresh() == "", "a worker that could do it, but died, may restart"


def test_a_paused_worker_while_the_client_updates_itself():
    progress, stop = WorkerProgress(Watcher()), threading.Event()
    with in_this_process(2) as cluster, Client(cluster) as client:

        def disturb():
            while not stop.is_set():
                client.scheduler_info(n_workers=0)

        disturbing = threading.Thread(target=disturb)
        disturbing.start()
        try:
            workers = Workers(Cluster(client), progress)
            for _ in range(200):
                workers.refresh()
                assert len(workers.connected) == 2
        finally:
            stop.set()
            disturbing.join()
        paused, awake = workers.connected
        client.run(lambda dask_worker: setattr(dask_worker, "status", Status.paused), workers=[paused])
        until(lambda: workers.refresh() == "" and workers.is_paused(paused), "the scheduler knows it")
        job = Job("0", ("hog",), ("v",))
        assert workers.placement_of(job) == Placement(False, (awake,))
        assert workers.placement_of(job.after_failure(awake)) == Placement(False), (
            "the one that has failed, or the other when it can"
        )
        assert workers.is_stranded(Placement(False, (paused,))) and not workers.is_stranded(Placement(False, (awake,)))
