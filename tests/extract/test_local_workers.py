"""Workers on this machine come back, however slowly they restart, or the cluster says why they cannot; their GPUs."""

import os
import signal
import threading
from pathlib import Path

import dask
import pytest
from distributed import Client

from abaw.core.errors import UsageError
from abaw.extract.cluster.cluster import LOST_WORKER_S, LocalCluster, read_cluster_file
from abaw.extract.cluster.gpus import choose_gpus
from abaw.extract.cluster.local import MAX_FAILED_STARTS, LocalWorkers
from abaw.extract.cluster.process_settings import dask_settings
from abaw.tests.support.processes import DEADLINE_S, until

# Put into the Python of each worker: the file `orders` says what happens to those that start.
SITE = """
import os, pathlib, sys, time

def fail(event, arguments):
    if event == "os.mkdir" and "dask-scratch" in str(arguments[0]):
        if order == "fail once":
            orders.unlink()
        raise OSError("the disk is away")

orders = pathlib.Path(__file__).with_name("orders")
if "spawn_main" in " ".join(sys.orig_argv) and orders.exists():
    order = orders.read_text()
    orders.with_name("starts").open("a").write("x")
    if order in ("sleep", "hang"):
        time.sleep(5 if order == "sleep" else 3600)
    else:
        sys.addaudithook(fail)
"""


class OneWorker:
    """A cluster whose only worker is killed."""

    def __init__(self, cluster: LocalWorkers, client: Client, folder: Path) -> None:
        self.cluster, self._client, self._folder = cluster, client, folder

    def kill(self, order: str) -> None:
        """Kill the worker; the next ones start as the order says."""
        (process,) = self._client.run(os.getpid).values()
        (self._folder / "orders").write_text(order)
        (self._folder / "starts").write_text("")
        os.kill(process, signal.SIGKILL)
        until(lambda: not self.cluster.scheduler.workers, "the worker is gone")

    def n_starts(self) -> int:
        """How many workers have started since."""
        return len((self._folder / "starts").read_text())


@pytest.fixture
def one_worker(process_env, monkeypatch, tmp_path):
    """One worker, with the second of two GPUs, where dask by itself would give up after a second a worker that is lost."""
    (tmp_path / "sitecustomize.py").write_text(SITE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), process_env["PYTHONPATH"]]))
    monkeypatch.setenv("DASK_TEMPORARY_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,MIG-3a")
    with (
        dask.config.set({"distributed.deploy.lost-worker-timeout": 1}),
        dask_settings(LOST_WORKER_S),
        LocalWorkers(n_workers=1, threads=1, gpus=(1, 0), check_s=0.1) as cluster,
        Client(cluster) as client,
    ):
        yield OneWorker(cluster, client, tmp_path)


def test_workers_come_back_late_or_at_the_second_try_until_they_cannot_be_started(one_worker):
    cluster = one_worker.cluster
    assert cluster.scheduler.worker_ttl is None, "nobody but the driver decides that a worker hangs"
    one_worker.kill("sleep")
    until(lambda: cluster.scheduler.workers, "the worker is back")
    assert cluster.trouble() == "" and one_worker.n_starts() == 1, "the slow one was waited for"
    one_worker.kill("fail once")
    until(lambda: cluster.scheduler.workers, "the worker is back")
    assert cluster.trouble() == "" and one_worker.n_starts() == 1
    with Client(cluster) as client:
        assert list(client.run(lambda: os.environ["CUDA_VISIBLE_DEVICES"]).values()) == ["MIG-3a"]
    one_worker.kill("fail")
    until(cluster.trouble, "the cluster gives up")
    assert cluster.trouble() == f"{MAX_FAILED_STARTS} workers in a row could not be started (the disk is away)"
    assert not cluster.scheduler.workers


def test_a_worker_that_hangs_while_it_starts_holds_nobody_up_at_the_end(one_worker):
    one_worker.kill("hang")
    until(one_worker.n_starts, "the next one starts")
    closing = threading.Thread(target=one_worker.cluster.close, daemon=True)
    closing.start()
    closing.join(DEADLINE_S)
    assert not closing.is_alive()


@pytest.mark.parametrize(
    ("visible", "gpus", "values"),
    [
        ("2,3", (1, 0, 1), ("3", "2", "3")),
        (" 7 , 5", (0, "1"), ("7", "5")),
        ("GPU-8932f937-d72c,GPU-11", (1, "GPU-8932f937"), ("GPU-11", "GPU-8932f937-d72c")),
        ("GPU-8932f937,GPU-11", ("GPU-8932f937-d72c",), ("GPU-8932f937-d72c",)),
        ("MIG-1,MIG-12", ("MIG-1", 1), ("MIG-1", "MIG-12")),
        ("2,3", ("GPU-8932f937",), ("GPU-8932f937",)),
        ("4,-1,5", (0,), ("4",)),
        (None, ("MIG-GPU-8932f937/1/0", "GPU-1"), ("MIG-GPU-8932f937/1/0", "GPU-1")),
        ("", (), ()),
    ],
)
def test_gpus_as_the_driver_may_use_them(visible, gpus, values, monkeypatch):
    set_visible(monkeypatch, visible)
    assert choose_gpus(gpus) == values


@pytest.mark.parametrize(
    ("visible", "gpu", "words"),
    [
        ("2,3", 2, r"no GPU 2\. Take one of those that this process may use, as .* is '2,3': 0 \(2\), 1 \(3\)\."),
        ("", 0, r"this process may use none, as CUDA_VISIBLE_DEVICES is ''\. Leave gpus out\."),
        ("-1", "GPU-1", "may use none"),
        ("NoDevFiles", 0, "may use none"),
        ("4,-1,5", 1, r": 0 \(4\)\."),
        ("GPU-11,GPU-12", "GPU-2", r"0 \(GPU-11\), 1 \(GPU-12\)"),
        ("GPU-11,GPU-12", "GPU-1", r"0 \(GPU-11\), 1 \(GPU-12\)"),
        (None, -1, "-1 is no GPU: take a number from 0 on, or a name such as GPU-8932f937"),
        (None, "cuda:0", "'cuda:0' is no GPU"),
    ],
)
def test_gpus_that_are_missing(visible, gpu, words, monkeypatch):
    set_visible(monkeypatch, visible)
    with pytest.raises(UsageError, match=words):
        choose_gpus((gpu,))


@pytest.mark.parametrize(("n_gpus", "exists"), [(2, True), (1, False), (0, True)])
def test_numbers_are_those_of_the_machine_where_all_may_be_used(n_gpus, exists, monkeypatch):
    set_visible(monkeypatch, None)
    monkeypatch.setattr("torch.cuda.device_count", lambda: n_gpus)
    if exists:
        assert choose_gpus((1,)) == ("1",), "without any GPU the workers use the CPU"
    else:
        with pytest.raises(UsageError, match=r"no GPU 1\. Take one of those that this process may use: 0\."):
            choose_gpus((1,))


def set_visible(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    if value is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)


def test_gpus_in_a_cluster_file(tmp_path):
    file = tmp_path / "cluster.toml"
    file.write_text('[cluster]\nkind = "local"\ngpus = ["GPU-8932f937", "MIG-1", 2, "3"]\n')
    options = read_cluster_file(file)
    assert isinstance(options, LocalCluster) and options.gpus == ("GPU-8932f937", "MIG-1", 2, 3)
    for invalid in ("true", "1.5", '"first"', "-1"):
        file.write_text(f'[cluster]\nkind = "local"\ngpus = [0, {invalid}]\n')
        with pytest.raises(UsageError, match=r"cluster\.gpus\.1: .* is no GPU: take a number from 0 on, or a name"):
            read_cluster_file(file)
