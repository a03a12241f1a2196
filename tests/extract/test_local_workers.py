"""Workers on this machine come back, however slowly they begin anew, and tell why where they cannot; their GPUs."""

import os
import signal
import threading
from contextlib import contextmanager

import pytest
from distributed import Client

from abaw.core.errors import UsageError
from abaw.extract.cluster.cluster import LocalCluster, read_cluster_file
from abaw.extract.cluster.gpus import choose_gpus
from abaw.extract.cluster.local import FAILED_STARTS, LocalWorkers
from abaw.tests.support.processes import DEADLINE_S, until

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


def test_workers_take_the_gpus_of_the_allocation(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,MIG-3a")
    with LocalWorkers(n_workers=1, threads=1, gpus=(1, 0)) as cluster, Client(cluster) as client:
        assert list(client.run(lambda: os.environ["CUDA_VISIBLE_DEVICES"]).values()) == ["MIG-3a"]
    with pytest.raises(UsageError, match=r"no GPU 2\. Take one of those .* '2,MIG-3a': 0 \(2\), 1 \(MIG-3a\)\."):
        LocalWorkers(n_workers=1, threads=1, gpus=(2,))


@pytest.mark.parametrize(
    ("visible", "asked", "given"),
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
def test_gpus_as_the_driver_may_use_them(visible, asked, given, monkeypatch):
    set_visible(monkeypatch, visible)
    assert choose_gpus(asked) == given


@pytest.mark.parametrize(
    ("visible", "asked", "words"),
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
def test_gpus_that_are_not_there(visible, asked, words, monkeypatch):
    set_visible(monkeypatch, visible)
    with pytest.raises(UsageError, match=words):
        choose_gpus((asked,))


@pytest.mark.parametrize(("n_gpus", "is_there"), [(2, True), (1, False), (0, True)])
def test_numbers_are_those_of_the_machine_where_all_may_be_used(n_gpus, is_there, monkeypatch):
    set_visible(monkeypatch, None)
    monkeypatch.setattr("torch.cuda.device_count", lambda: n_gpus)
    if is_there:
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
    for wrong in ("true", "1.5", '"first"', "-1"):
        file.write_text(f'[cluster]\nkind = "local"\ngpus = [0, {wrong}]\n')
        with pytest.raises(UsageError, match=r"cluster\.gpus\.1: .* is no GPU: take a number from 0 on, or a name"):
            read_cluster_file(file)
