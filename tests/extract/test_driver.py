"""The driver of a cluster, and what it knows of its workers: those that are lost, paused, unfit, deaf or broken."""

import gc
import logging
import os
import socket
import threading
import time
from dataclasses import replace

import dask
import psutil
import pytest
from distributed import Client, Nanny, Scheduler, SpecCluster, Status, Worker

from abaw.core.errors import UsageError
from abaw.core.progress import Summary
from abaw.extract.cluster.cluster import Cluster, ClusterOptions, connected
from abaw.extract.cluster.driver import RETURNS, Driver
from abaw.extract.cluster.job_progress import Follower
from abaw.extract.cluster.jobs import Order
from abaw.extract.cluster.local import LocalWorkers
from abaw.extract.cluster.workers import Bound, Roster
from abaw.extract.stage import Stage
from abaw.pipeline import ExtractOptions, extract
from abaw.tests.support.processes import DEADLINE_S, Watcher, assert_equal_stores, until

N_VIDEOS = 20


def test_no_worker_comes(slow_data, tmp_path):
    stage, summary = Stage.open(ExtractOptions(slow_data, tmp_path / "store.zarr", ("hog",), device="cpu")), Summary()
    scheduler = {"cls": Scheduler, "options": {"dashboard_address": ":0"}}
    with SpecCluster(scheduler=scheduler) as cluster, Client(cluster) as client:
        Driver(stage, Cluster(client, patience_s=1), summary, Watcher()).run(stage.plan(summary))
    assert summary.stopped and summary.stopped.sentence == (
        "no worker is there, for 1 s now; see to the cluster (a worker that cannot import abaw leaves at once), and run the "
        "same command again"
    )


@pytest.mark.parametrize("strike", ["suspend", "kill"])
def test_a_worker_that_is_lost_before_its_result_is_fetched(
    slow_data, slow_store, process_env, monkeypatch, caplog, tmp_path, strike
):
    class Late(Driver):
        """Stops or kills the worker that has the first result, and only then asks for it."""

        struck = 0

        def _fetch(self, future):
            if future.status == "finished" and not self.struck:
                (holders,) = self._client.who_has([future]).values()
                (self.struck,) = self._client.run(os.getpid, workers=holders).values()
                getattr(psutil.Process(self.struck), strike)()
            return super()._fetch(future)

    monkeypatch.setenv("PYTHONPATH", process_env["PYTHONPATH"])
    monkeypatch.setattr("abaw.extract.cluster.driver.FETCH_S", 2.0)
    store, summary = tmp_path / "store.zarr", Summary()
    stage = Stage.open(ExtractOptions(slow_data, store, ("hog",), device="cpu"))
    gc.collect()
    caplog.clear()
    local = LocalWorkers(n_workers=2, threads=1, gpus=())
    with local, connected(ClusterOptions(local.scheduler_address)) as cluster:
        driver = Late(stage, replace(cluster, n_workers=2, stall_s=15), summary, Watcher())
        driver.run(stage.plan(summary))
        assert not psutil.pid_exists(driver.struck), "it was started anew"
    assert summary.ok and len(summary.done) == N_VIDEOS
    assert_equal_stores(store, slow_store)
    gc.collect()  # what was left to itself, Python tells of here
    assert [record.message for record in caplog.records if record.name == "asyncio"] == []


def one_worker(**options):
    """A cluster with one worker of dask's own kind."""
    scheduler = {"cls": Scheduler, "options": {"dashboard_address": ":0"}}
    return SpecCluster({0: {"cls": Nanny, "options": {"nthreads": 1, **options}}}, scheduler, silence_logs="critical")


def test_results_that_cannot_be_fetched(slow_data, process_env, monkeypatch, tmp_path):
    """Workers reach the scheduler, and it does not reach them: as behind a firewall."""
    monkeypatch.setenv("PYTHONPATH", process_env["PYTHONPATH"])
    monkeypatch.setattr("abaw.extract.cluster.driver.FETCH_S", 0.5)
    stage, summary = Stage.open(ExtractOptions(slow_data, tmp_path / "store.zarr", ("hog",), device="cpu")), Summary()
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        address = f"tcp://127.0.0.1:{deaf.getsockname()[1]}"
        with one_worker(contact_address=address) as cluster, Client(cluster) as client:
            Driver(stage, Cluster(client), summary, Watcher()).run(stage.plan(summary))
    assert summary.stopped and summary.stopped.sentence == (
        f"results cannot be fetched: see that the scheduler reaches its workers ({address}), and run the same command again"
    )


def test_workers_that_dask_has_paused(slow_data, process_env, monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPATH", process_env["PYTHONPATH"])
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
        Driver(stage, Cluster(client, patience_s=3), summary, Watcher()).run(stage.plan(summary))
    assert summary.stopped and summary.stopped.sentence == (
        "dask has paused the workers for want of memory, for 3 s now; start them with --memory-limit 0, and run the same command again"
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


def test_a_video_that_breaks_the_gpu_of_its_process(slow_data, slow_store, process_env, monkeypatch, tmp_path):
    """Whatever the process asks of the GPU fails from then on: it is started anew, and other videos do not suffer."""
    monkeypatch.setenv("PYTHONPATH", process_env["PYTHONPATH"])
    (tmp_path / "broken.py").write_text(BROKEN)
    store, summary = tmp_path / "store.zarr", Summary()
    stage = Stage.open(ExtractOptions(slow_data, store, ("hog",), device="cpu", batch_size=8))
    preload = ["abaw.extract.cluster.worker", str(tmp_path / "broken.py")]
    with one_worker(memory_limit=0, preload=preload) as cluster, Client(cluster) as client:
        Driver(stage, Cluster(client, 1), summary, Watcher()).run(stage.plan(summary))
    why = (
        "the device failed (CUDA error: an illegal memory access was encountered); run the same command again to go on"
    )
    assert summary.failed == {"video-02": why}
    assert len(summary.done) == N_VIDEOS - 1 and not summary.stopped
    assert extract(ExtractOptions(slow_data, store, ("hog",), device="cpu", batch_size=8)).ok
    assert_equal_stores(store, slow_store)


def test_who_is_on_the_roster(process_env, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", process_env["PYTHONPATH"])
    with one_worker(resources={"GPU": 0.5}) as cluster, Client(cluster) as client:
        client.wait_for_workers(1, timeout=DEADLINE_S)
        follower = Follower(Watcher())
        roster = Roster(Cluster(client, n_workers=2), follower)
        assert roster.look() == ""
        (address,) = roster.workers
        assert roster.bind(Order("0", ("hog",), ("v",))) == Bound(gpu=False), "half a GPU is none to give"
        roster.unfit |= {address: "it sees nothing", "tcp://of-its-last-life:1": "it saw nothing"}
        assert roster.look() == "", "the second worker may be between two jobs"
        alone = Roster(Cluster(client), follower)
        alone.unfit[address] = "it sees nothing"
        with pytest.raises(UsageError, match=rf"No worker of the cluster can do this; {address} says: it sees nothing"):
            alone.look()
        said = {"worker": "tcp://that-died:1", "life": "1", "order": "0", "begins": True, "frames": 0, "new": 0}
        follower.hear((0.0, said))
        assert alone.look() == "", "one that could, but died, may begin anew"


def test_a_roster_with_a_paused_worker_while_its_client_looks_for_itself():
    follower, stop = Follower(Watcher()), threading.Event()
    scheduler = {"cls": Scheduler, "options": {"dashboard_address": ":0"}}
    workers = {number: {"cls": Worker, "options": {"nthreads": 1, "memory_limit": 0}} for number in range(2)}
    with SpecCluster(workers, scheduler) as cluster, Client(cluster) as client:

        def disturb():
            while not stop.is_set():
                client.sync(client._update_scheduler_info)

        disturbing = threading.Thread(target=disturb)
        disturbing.start()
        try:
            roster = Roster(Cluster(client), follower)
            for _ in range(200):
                roster.look()
                assert len(roster.workers) == 2
        finally:
            stop.set()
            disturbing.join()
        paused, awake = roster.workers
        client.run(lambda dask_worker: setattr(dask_worker, "status", Status.paused), workers=[paused])
        until(lambda: roster.look() == "" and roster.is_paused(paused), "the scheduler knows it")
        order = Order("0", ("hog",), ("v",))
        assert roster.bind(order) == Bound(False, (awake,))
        assert roster.bind(order.after_failure(awake)) == Bound(False), (
            "the one that has failed, or the other when it can"
        )
        assert roster.is_stranded(Bound(False, (paused,))) and not roster.is_stranded(Bound(False, (awake,)))


def test_whose_fault_the_death_of_a_worker_is(slow_data, tmp_path):
    stage, summary = Stage.open(ExtractOptions(slow_data, tmp_path / "store.zarr", ("hog",), device="cpu")), Summary()
    scheduler = {"cls": Scheduler, "options": {"dashboard_address": ":0"}}
    with SpecCluster(scheduler=scheduler) as cluster, Client(cluster) as client:
        driver = Driver(stage, Cluster(client, deaths=2), summary, Watcher())
        said = {"worker": "tcp://it:1", "life": "1", "order": "at work", "begins": True, "frames": 8, "new": 8}
        driver._follower.hear((0.0, said))
        driver._follower.hear((0.0, said | {"worker": "tcp://idle:1", "life": "2", "order": "finished"}))
        driver._follower.hear(
            (0.0, said | {"worker": "tcp://idle:1", "life": "2", "order": "at work", "begins": False})
        )
        at_work, behind = (client.submit(lambda: 0, pure=False) for _ in range(2))
        driver._running |= {at_work: Order("at work", ("hog",), ("a",)), behind: Order("behind", ("hog",), ("b",))}
        driver._bound |= dict.fromkeys(driver._running, Bound(gpu=False))
        driver._after_deaths(behind, "tcp://idle:1")
        assert driver._n_deaths == {"at work": 1}, (
            "who was between two orders is nobody's fault, but who died with it counts"
        )
        driver._after_deaths(behind, "tcp://never-said-a-word:1")
        assert driver._n_deaths == {"at work": 1, "behind": 1} and not summary.failed
        while driver._n_returns["behind"] < RETURNS:
            assert not summary.failed
            driver._after_deaths(behind, "tcp://idle:1")
        assert driver._n_deaths == {"at work": 1, "behind": 2}
        assert summary.failed == {
            "b": "each worker that had it died, perhaps for want of memory; see the workers' logs"
        }
        assert list(driver._running) == [at_work]


def test_an_error_that_nobody_waits_for_any_more_is_not_printed(caplog):
    scheduler = {"cls": Scheduler, "options": {"dashboard_address": ":0"}}
    gc.collect()
    caplog.clear()
    workers = {0: {"cls": Worker, "options": {"nthreads": 1, "memory_limit": 0}}}
    with SpecCluster(workers, scheduler) as cluster, connected(ClusterOptions(cluster.scheduler_address)) as found:
        future = found.client.submit(lambda: time.sleep(1) or 1 / 0)
        with pytest.raises(TimeoutError):
            found.client.sync(found.client._gather, [future], callback_timeout=0.1)  # as where its worker is lost
        with pytest.raises(ZeroDivisionError):
            future.result()
        logging.getLogger("asyncio").error("This is printed", exc_info=OSError())
    gc.collect()  # what was left to itself, Python tells of here
    assert [record.message for record in caplog.records if record.name == "asyncio"] == ["This is printed"]
