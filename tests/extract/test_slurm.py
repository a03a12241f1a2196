"""Jobs of a real slurm: the unchanged examples, workers that are lost, and jobs that slurm refuses."""

import os
import re
import sys
from contextlib import ExitStack

import pytest

from abaw.core.errors import UsageError
from abaw.extract.cluster.cluster import ClusterOptions, connected, read_cluster_file
from abaw.tests.support.paths import CHECKOUT
from abaw.tests.support.processes import Started, assert_equal_stores, until
from abaw.tests.support.slurm_here import NoSlurmError, running_slurm

EXAMPLES = CHECKOUT / "examples" / "slurm"
JOB_S = 240.0  # within which any job ends, on a busy machine


@pytest.fixture(scope="module")
def slurm(process_env, tmp_path_factory):
    """A slurm whose jobs have `abaw` and `torchrun` of this checkout on their path, and note which GPUs they got."""
    commands = tmp_path_factory.mktemp("commands")
    for name, module in (("abaw", "abaw"), ("torchrun", "torch.distributed.run")):
        command = commands / name
        note = 'echo "$SLURM_JOB_NAME $CUDA_VISIBLE_DEVICES" >> "$SLURM_SUBMIT_DIR/gpus"'
        command.write_text(f'#!/bin/sh\n{note}\nexec {sys.executable} -m {module} "$@"\n')
        command.chmod(0o755)
    environment = {**process_env, "PATH": f"{commands}:{os.environ['PATH']}"}
    with ExitStack() as stack:
        try:
            started = stack.enter_context(running_slurm(environment))
        except NoSlurmError as reason:
            pytest.skip(f"slurm: {reason}")
        yield started


@pytest.fixture
def submit(slurm, tmp_path):
    """Submits an example from `tmp_path`, `submit("array.sbatch", *args, options=("--array=1-3",), **environment)`."""

    def submit(example, *args, options=(), **environment):
        variables = slurm.environment | {name: str(value) for name, value in environment.items()}
        command = ("sbatch", "--parsable", *options, EXAMPLES / example, *args)
        submitted = slurm.call(*command, env=variables, cwd=tmp_path)
        assert submitted.returncode == 0, submitted.stderr
        return submitted.stdout.strip()

    return submit


@pytest.fixture
def here(slurm, monkeypatch):
    """This process uses the slurm, and checks its jobs often."""
    jobs = pytest.importorskip("abaw.extract.cluster.slurm", reason="needs the packages of the extra `slurm`")
    monkeypatch.setattr(jobs, "CHECK_S", 1.0)
    for name in ("SLURM_CONF", "PATH", "PYTHONPATH"):
        monkeypatch.setenv(name, slurm.environment[name])


def assert_completed(slurm, job, folder):
    """The job, or all jobs of an array, ended successfully."""
    until(lambda: not slurm.jobs(f"--jobs={job}"), f"job {job} ends", JOB_S)
    logs = "\n".join(path.read_text() for path in sorted(folder.glob("**/*.log")))
    states = re.findall(r"JobState=(\w+)", slurm.call("scontrol", "show", "job", job).stdout)
    assert set(states) == {"COMPLETED"}, f"{states}\n{logs}"
    return states, logs


def write_cluster_file(folder, *lines):
    """The example's file with other values, as `jobs = 2`."""
    text = (EXAMPLES / "cluster.toml").read_text()
    for line in lines:
        name = line.partition(" ")[0]
        text, n_changed = re.subn(rf"^(# )?{name} = .*$", line.replace("\\", r"\\"), text, flags=re.MULTILINE)
        assert n_changed == 1, name
    path = folder / "cluster.toml"
    path.write_text(text)
    return path


def test_an_array_gives_what_one_process_gives(slurm, submit, tiny_demo, tiny_store, tmp_path):
    store = tmp_path / "store.zarr"
    job = submit("array.sbatch", "--backbone", "hog", options=("--array=1-3",), ABAW_DATA=tiny_demo, ABAW_STORE=store)
    states, _ = assert_completed(slurm, job, tmp_path)
    assert len(states) == 3
    assert_equal_stores(store, tiny_store)
    gpus = [line.split() for line in (tmp_path / "gpus").read_text().splitlines()]
    assert len(gpus) == 3 and all(name == "abaw-extract" and gpu in {"0", "1", "2", "3"} for name, gpu in gpus)
    log = (tmp_path / f"abaw-extract-{job}-2.log").read_text()
    assert re.search(r"done \d, skipped 0, failed 0", log)


def test_a_driver_continues_with_another_job_when_one_is_cancelled(slurm, submit, slow_data, slow_store, tmp_path):
    pytest.importorskip("abaw.extract.cluster.slurm", reason="needs the packages of the extra `slurm`")
    store = tmp_path / "store.zarr"
    cluster = write_cluster_file(tmp_path, "jobs = 1", 'prologue = ["echo $CUDA_VISIBLE_DEVICES >> gpus-of-workers"]')
    job = submit("dask.sbatch", "--backbone", "hog", ABAW_CLUSTER=cluster, ABAW_DATA=slow_data, ABAW_STORE=store)
    until(lambda: any(store.glob("features/hog/video-*")) or job not in slurm.jobs(), "a video has begun", JOB_S)
    workers = slurm.jobs("--name=abaw-worker")
    slurm.call("scancel", *workers)
    _, log = assert_completed(slurm, job, tmp_path)
    assert len(workers) == 1
    assert "done 20, skipped 0, failed 0" in log
    assert_equal_stores(store, slow_store)
    assert (tmp_path / "gpus-of-workers").read_text().split() == ["0", "0"]
    assert len(list((tmp_path / "slurm-logs").glob("abaw-worker-*.log"))) == 2
    until(lambda: not slurm.jobs(), "the driver takes its workers away")


def test_workers_use_their_job_and_come_back(slurm, here, tmp_path):
    logs = tmp_path / "logs"
    file = write_cluster_file(tmp_path, "jobs = 2", "cores = 2", f'logs = "{logs}"')
    with connected(ClusterOptions(file=file)) as cluster:
        cluster.client.wait_for_workers(2, timeout=JOB_S)
        workers = cluster.client.sync(cluster.client.scheduler.identity, n_workers=-1)["workers"]
        assert [(worker["nthreads"], worker["resources"]) for worker in workers.values()] == [(1, {"GPU": 1})] * 2
        jobs = cluster.client.run(os.getenv, "SLURM_JOB_ID")
        assert len(set(cluster.client.run(os.getenv, "CUDA_VISIBLE_DEVICES").values())) == 2
        assert cluster.client.submit(threads_of_torch, resources={"GPU": 1}).result() == min(2, os.cpu_count())
        lost = min(jobs)
        slurm.call("scancel", jobs[lost])

        def replaced():
            workers = cluster.client.sync(cluster.client.scheduler.identity, n_workers=-1)["workers"]
            return len(workers) == 2 and lost not in workers

        until(replaced, "the worker is replaced", JOB_S)
        assert set(cluster.client.run(os.getenv, "SLURM_JOB_ID").values()) - set(jobs.values())
        assert cluster.trouble() == ""
    until(lambda: not slurm.jobs(), "no job is left")
    assert len(list(logs.iterdir())) == 3


def threads_of_torch():
    import torch

    return torch.get_num_threads()


def test_jobs_that_end_before_their_worker_comes(slurm, here, tmp_path):
    logs = tmp_path / "logs"
    file = write_cluster_file(tmp_path, "jobs = 3", f'logs = "{logs}"', 'prologue = ["echo no such module; exit 1"]')
    with connected(ClusterOptions(file=file)) as cluster:
        until(cluster.trouble, "all jobs failed", JOB_S)
        sentence = rf"[3-9] jobs in a row ended before their worker came; their logs in {re.escape(str(logs))} say why"
        assert re.fullmatch(sentence, cluster.trouble())
    texts = [path.read_text() for path in logs.iterdir()]
    assert len(texts) >= 3 and set(texts) == {"no such module\n"}


def test_an_interrupt_takes_waiting_jobs_out_of_the_queue(slurm, tiny_demo, tmp_path):
    pytest.importorskip("abaw.extract.cluster.slurm", reason="needs the packages of the extra `slurm`")
    file = write_cluster_file(tmp_path, 'directives = ["--begin=now+1hour"]')
    arguments = ("--data", tiny_demo, "--store", tmp_path / "store.zarr", "--backbone", "hog", "--cluster", file)
    with Started("abaw", "extract", *arguments, environment=slurm.environment, folder=tmp_path) as driver:
        driver.until(lambda: list(slurm.jobs().values()) == ["PENDING"] * 4, "four jobs wait")
        driver.interrupt()
        assert driver.end() == 1
    assert re.search(r"[Ii]nterrupted.* run the same command again to continue", driver.output)
    until(lambda: not slurm.jobs(), "no job is left")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('queue = "nowhere"', "Invalid partition name specified"),
        ('directives = ["--gres=gpu:9"]', "Requested node configuration is not available"),
    ],
)
def test_slurm_refuses(slurm, here, run_cli, tiny_demo, tmp_path, line, words):
    file = write_cluster_file(tmp_path, f'logs = "{tmp_path}"', line)
    paths = ("--data", tiny_demo, "--store", tmp_path / "store.zarr")
    found = run_cli("extract", *paths, "--backbone", "hog", "--cluster", file)
    assert found.exit_code == 2
    last = found.output.strip().splitlines()[-1]
    assert last.startswith("Error: Slurm refuses the jobs: ") and words in last and "Correct the cluster file." in last
    assert not slurm.jobs()


def test_training_on_two_gpus_continues_when_submitted_again(slurm, submit, tiny_store, tmp_path):
    variables = {"ABAW_STORE": tiny_store, "ABAW_RUNS": tmp_path / "runs"}
    options = ("--set", "epochs=2", "--set", "head.dim=16", "--set", "head.layers=1", "--set", "head.heads=2")
    first = submit("train.sbatch", "va-1", "--task", "va", *options, options=("--gres=gpu:2",), **variables)
    again = ("--gres=gpu:2", f"--dependency=afterany:{first}")
    second = submit("train.sbatch", "va-1", "--task", "va", *options, options=again, **variables)
    for job in (first, second):
        assert_completed(slurm, job, tmp_path)
    assert len((tmp_path / "runs" / "va-1" / "metrics.jsonl").read_text().splitlines()) == 2
    assert (tmp_path / "gpus").read_text().splitlines() == ["abaw-train 0,1"] * 2
    assert "at epoch 2 of 2" in (tmp_path / f"abaw-train-{second}.log").read_text()


def test_a_machine_without_slurm(run_cli, tiny_demo, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    arguments = ("--data", tiny_demo, "--store", tmp_path / "store.zarr", "--backbone", "hog")
    found = run_cli("extract", *arguments, "--cluster", EXAMPLES / "cluster.toml")
    assert found.exit_code == 2
    assert "Error: A slurm cluster needs the command sbatch, which is missing here." in found.output


def test_options_of_slurm_clusters(tmp_path):
    assert read_cluster_file(EXAMPLES / "cluster.toml").queue == "gpu"
    with pytest.raises(UsageError, match=r"cluster\.gpus: Input should be less than or equal to 1"):
        read_cluster_file(write_cluster_file(tmp_path, "gpus = 2"))
