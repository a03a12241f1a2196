"""Extraction on dask clusters: the same arrays as in one process, whatever happens to workers."""

import gc
import ipaddress
import os
import re
import signal
import sys
from pathlib import Path

import dask
import psutil
import pytest
from distributed import Client, Security

from abaw.core.errors import UsageError
from abaw.extract.cluster.cluster import (
    ClusterOptions,
    LocalCluster,
    SlurmCluster,
    connected,
    read_cluster_file,
    started,
)
from abaw.extract.cluster.jobs import Job, make_jobs
from abaw.extract.cluster.worker import extract_videos
from abaw.extract.plan import ExtractionPlan
from abaw.pipeline import ExtractOptions, extract
from abaw.store import FeatureStore
from abaw.tests.support.processes import DEADLINE_S, Watcher, assert_equal_stores


def listening(process: psutil.Process) -> set[tuple[str, int]]:
    """The addresses and ports that a process listens on."""
    return {tuple(other.laddr) for other in process.net_connections("inet") if other.status == psutil.CONN_LISTEN}


@pytest.fixture(scope="module")
def listeners_before():
    """What this process listens on without a cluster, such as a server of another test."""
    return listening(psutil.Process())


@pytest.fixture(scope="module")
def scheduler(process_env, listeners_before):
    """Address of a cluster of two processes on this machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", process_env["PYTHONPATH"])
        with started(LocalCluster(workers=2)) as cluster:
            yield cluster.scheduler_address


def test_a_cluster_gives_what_one_process_gives(tiny_demo, tiny_store, scheduler, tmp_path):
    store, watcher = tmp_path / "store.zarr", Watcher()
    options = ExtractOptions(tiny_demo, store, ("hog",), device="cpu")
    summary = extract(options, watcher, ClusterOptions(scheduler))
    assert summary.ok and len(summary.done) == 7 and not summary.skipped
    assert_equal_stores(store, tiny_store)
    watcher.assert_whole()
    assert watcher.total == summary.n_frames
    assert re.fullmatch(r"\d workers: [\d ]+ frames/s", watcher.notes[-1])
    again = extract(options, Watcher(), ClusterOptions(scheduler))
    assert len(again.skipped) == 7 and not again.done and again.ok
    assert FeatureStore.open(store).notes.read() == {}, "no claim is left"


def test_local_clusters_listen_on_the_loopback_alone_and_serve_no_pages(scheduler, listeners_before):
    with Client(scheduler) as client:
        workers = {psutil.Process(pid) for pid in client.run(os.getpid).values()}
        identity = client.sync(client.scheduler.identity, n_workers=-1)
    here = psutil.Process()
    assert len(workers) == 2 and workers <= set(here.children(recursive=True))
    addresses = {process: listening(process) - listeners_before for process in (here, *here.children(recursive=True))}
    assert all(addresses[process] for process in (here, *workers)), "the scheduler, its nannies and its workers listen"
    assert {ipaddress.ip_address(ip).is_loopback for pairs in addresses.values() for ip, _ in pairs} == {True}, (
        addresses
    )
    services = [node["services"] for node in (identity, *identity["workers"].values())]
    assert services == [{}] * 3, "a web server runs"


def test_a_killed_worker_loses_only_what_it_had_not_finished(tiny_demo, tiny_store, scheduler, tmp_path):
    store = tmp_path / "store.zarr"

    def kill_one():
        with Client(scheduler) as client:
            processes = client.run(os.getpid)
            busy = [worker for worker, keys in client.processing().items() if keys] or list(processes)
            os.kill(processes[busy[0]], signal.SIGKILL)

    watcher = Watcher(kill_one)
    summary = extract(ExtractOptions(tiny_demo, store, ("hog",), device="cpu"), watcher, ClusterOptions(scheduler))
    assert summary.ok, summary
    watcher.assert_whole()
    assert_equal_stores(store, tiny_store)


def test_parts_together_are_the_whole(tiny_demo, tiny_store, tmp_path):
    store = tmp_path / "store.zarr"
    done = [
        extract(ExtractOptions(tiny_demo, store, ("hog",), device="cpu", part=f"{number}/3")).done
        for number in (3, 1, 2)
    ]
    assert sorted(video for part in done for video in part) == list(FeatureStore.open(tiny_store).videos("hog"))
    assert all(done)
    assert_equal_stores(store, tiny_store)


def test_jobs_are_many_of_about_equal_size_and_hold_each_video_once():
    sizes = {f"video-{number}": number * 37 % 101 + 1 for number in range(40)}
    few = {"video-0": 5, "video-1": 7}
    jobs = make_jobs(ExtractionPlan({("hog",): sizes, ("dan", "hog"): few}, {}), n_workers=2)
    for pending, names in ((("hog",), sizes), (("dan", "hog"), few)):
        videos = [name for job in jobs if job.pending == pending for name in job.videos]
        assert sorted(videos) == sorted(names)
    assert 16 <= len(jobs) <= 20 and len({job.name for job in jobs}) == len(jobs)
    frames = [sum(sizes[name] for name in job.videos) for job in jobs if job.pending == ("hog",)]
    assert max(frames) - min(frames) <= max(sizes.values())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("workers = 2", "cluster: Field required"),
        ('[cluster]\nkind = "local"\nworker = 2', "cluster.worker: Extra inputs are not permitted"),
        ('[cluster]\nkind = "local"\nworkers = 0', "cluster.workers: Input should be greater than or equal to 1"),
        ('[cluster]\nkind = "pbs"', "cluster: Input tag 'pbs'"),
        ("[cluster", "cannot be read"),
    ],
)
def test_bad_cluster_files(tmp_path, text, words):
    path = tmp_path / "cluster.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=re.escape(words)):
        read_cluster_file(path)


def test_command_line_errors(tiny_demo, tmp_path, run_cli):
    arguments = ("extract", "--data", tiny_demo, "--store", tmp_path / "s.zarr", "--backbone", "hog", "--device", "cpu")
    tls = run_cli(*arguments, "--scheduler", "tls://127.0.0.1:1")
    assert tls.exit_code == 2 and "No dask scheduler answers at tls://127.0.0.1:1" in tls.output
    both = run_cli(*arguments, "--scheduler", "tcp://127.0.0.1:1", "--cluster", "x.toml")
    assert both.exit_code == 2 and "--scheduler and --cluster cannot be combined" in both.output
    missing = run_cli(*arguments, "--cluster", tmp_path / "missing.toml")
    assert missing.exit_code == 2 and "missing.toml cannot be read" in missing.output
    part = run_cli(*arguments, "--part", "5/4")
    assert part.exit_code == 2 and "A part is I/N" in part.output


def test_a_client_that_cannot_connect_is_closed():
    with (
        pytest.raises(UsageError, match=re.escape("No dask scheduler answers at tls://127.0.0.1:1")),
        connected(ClusterOptions("tls://127.0.0.1:1")),
    ):
        pass
    assert not [client for client in gc.get_objects() if type(client) is Client and client.status != "closed"]


def test_workers_have_the_threads_of_the_file_and_spend_none_on_dask(scheduler):
    def read_settings():  # a local function, because workers cannot import this file
        import torch

        # of the process at its start: what is set later has no effect
        lines = Path("/proc/self/environ").read_text().split("\0")
        variables = dict(line.split("=", 1) for line in lines if "=" in line)
        limits = variables.get("MALLOC_TRIM_THRESHOLD_"), variables.get("MALLOC_MMAP_THRESHOLD_")
        return torch.get_num_threads(), *limits

    with Client(scheduler) as client:
        assert set(client.run(read_settings).values()) == {(1, str(2**30), str(2**30))}
        callbacks = client.run(lambda dask_worker: list(dask_worker.periodic_callbacks))
    assert all("heartbeat" in names and "profile" not in names for names in callbacks.values()), "dask profiles them"


@pytest.fixture
def sbatch(monkeypatch, tmp_path):
    """The folder, on the path, of a command of that name, which fails."""
    command = tmp_path / "bin" / "sbatch"
    command.parent.mkdir()
    command.write_text("#!/bin/sh\nexit 1\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")
    return command.parent


def test_logs_of_jobs_need_a_folder(sbatch, tmp_path):
    (tmp_path / "file").touch()
    options = SlurmCluster(kind="slurm", logs=tmp_path / "file" / "logs")
    words = r"folder for the logs cannot be created \(.*\)\. Choose another one\."
    with pytest.raises(UsageError, match=words), started(options):
        pass


def test_slurm_without_its_package_says_how_to_install_it(sbatch, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "abaw.extract.cluster.slurm", None)
    words = r"^A slurm cluster needs a package that is missing: pip install '\.\[slurm\]' in abaw's folder\.$"
    with pytest.raises(UsageError, match=words), started(SlurmCluster(kind="slurm", logs=tmp_path / "logs")):
        pass


def test_a_cluster_that_cannot_start_is_one_sentence(sbatch, tmp_path):
    pytest.importorskip("dask_jobqueue", reason="needs the packages of the extra `slurm`")
    options = SlurmCluster(kind="slurm", logs=tmp_path / "logs")
    words = r"The cluster cannot be started \(.*nowhere0.*\)\. Correct the cluster file, or the network interface\."
    with (
        dask.config.set({"jobqueue.slurm.interface": "nowhere0"}),
        pytest.raises(UsageError, match=words),
        started(options),
    ):
        pass


# Commands of slurm: a job is a process in the background, and its number that of the process.
SLURM = {
    "sbatch": 'cp "$1" job.sh; sh job.sh > job.log 2>&1 & echo "Submitted batch job $!"',
    "squeue": "ps -e -o pid=",
    "scancel": 'kill "$@"',
}


def test_workers_in_slurm_connect_by_tls_and_nobody_connects_without_the_credentials(
    sbatch, process_env, monkeypatch, tmp_path
):
    pytest.importorskip("dask_jobqueue", reason="needs the packages of the extra `slurm`")
    for name, line in SLURM.items():
        (sbatch / name).write_text(f"#!/bin/sh\n{line}\n")
        (sbatch / name).chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", process_env["PYTHONPATH"])
    with started(SlurmCluster(kind="slurm", jobs=1, gpus=0)) as cluster:
        assert cluster.scheduler_address.startswith("tls://")
        keys = [file for file in Path("slurm-logs").iterdir() if "worker.key" in file.name]
        assert [file.stat().st_mode & 0o777 for file in keys] == [0o600]
        assert "PRIVATE KEY" not in Path("job.sh").read_text()
        with pytest.raises(OSError), Client(cluster.scheduler_address.replace("tls:", "tcp:"), timeout=1):
            pass
        others = Security.temporary()
        with pytest.raises(OSError), Client(cluster.scheduler_address, security=others, timeout=1):
            pass
        with Client(cluster) as client:
            client.wait_for_workers(1, timeout=DEADLINE_S)
            ((worker, pid),) = client.run(os.getpid).items()
        assert worker.startswith("tls://")
        port = int(worker.rpartition(":")[2])
        assert {ip for ip, other in listening(psutil.Process(pid)) if other != port} == {"127.0.0.1"}, "its health page"
    assert not list(Path("slurm-logs").iterdir()), "the credentials are deleted"


def test_a_worker_that_sees_other_data_says_so(tiny_demo, scheduler, tmp_path):
    options = ExtractOptions(tiny_demo, tmp_path / "store.zarr", ("hog",), device="cpu")
    with Client(scheduler) as client:
        job = Job("0", ("hog",), ("demo-99",))
        result = client.submit(extract_videos, options, job, "nobody listens", pure=False).result()
    assert result.unfit == f"there is no video 'demo-99' in {tiny_demo}." and not result.summary.done
