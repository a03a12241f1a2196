"""Extraction on the workers of a dask cluster: one that runs already, or one that is started from a file.

The driver plans and follows; a worker opens the stage once (its networks stay loaded), takes groups of videos of about
equal numbers of frames, and writes them whole. What a worker that dies had not finished goes to another one.
"""

import time
import tomllib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from distributed import Client, Nanny, SpecCluster, get_worker, wait
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from abaw.errors import UsageError
from abaw.extract.plan import split_evenly
from abaw.extract.request import ExtractOptions
from abaw.extract.sink import Summary
from abaw.extract.stage import Groups, Stage
from abaw.reporting import Reporter

TOPIC = "abaw-extract"
TASKS_PER_WORKER = 8  # more even out the end, fewer fill batches better
FRAMES_PER_TASK = 20_000  # at most, but for a longer video: what is lost when a worker dies
EVENT_S = 0.5  # between two reports of a worker
LOOK_S = 2.0  # between two looks of the driver
RETRIES = 2  # of a task that raised
WAIT_FOR_WORKERS_S = 600.0


class LocalCluster(BaseModel):
    """Processes on this machine.

    Attributes:
        workers: how many.
        threads: of each, for its networks on the CPU.
        gpus: numbers of the GPUs that the workers take in turn; none without.
        stall_s: a worker that reports nothing for so long while it has work is started anew.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["local"] = "local"
    workers: int = Field(2, ge=1)
    threads: int = Field(1, ge=1)
    gpus: tuple[int, ...] = ()
    stall_s: float = Field(600.0, gt=0)


class SlurmCluster(BaseModel):
    """Jobs of slurm, one worker each; started through dask-jobqueue.

    Attributes:
        jobs: how many.
        queue, account, walltime, cores, memory: of each job, as slurm takes them.
        gpus: of each job, as `--gres=gpu:N`.
        prologue: lines of the shell before the worker starts, such as `module load` or a container's command.
        directives: further `#SBATCH` options.
        stall_s: as for a local cluster.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["slurm"]
    jobs: int = Field(4, ge=1)
    queue: str | None = None
    account: str | None = None
    walltime: str = "04:00:00"
    cores: int = Field(8, ge=1)
    memory: str = "32GB"
    gpus: int = Field(1, ge=0)
    prologue: tuple[str, ...] = ()
    directives: tuple[str, ...] = ()
    stall_s: float = Field(600.0, gt=0)


class ClusterFile(BaseModel):
    """The content of a cluster file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cluster: Annotated[LocalCluster | SlurmCluster, Field(discriminator="kind")]


@dataclass(frozen=True)
class ClusterOptions:
    """Which cluster: the address of a scheduler, or a file to start one from."""

    address: str = ""
    file: Path | None = None


def read_cluster_file(path: Path) -> LocalCluster | SlurmCluster:
    """Read and check a cluster file: a TOML table `cluster` with `kind = "local"` or `"slurm"`.

    Raises:
        UsageError: it cannot be read, is no TOML, or has an option that is unknown or does not fit.
    """
    try:
        return ClusterFile.model_validate(tomllib.loads(path.read_text(encoding="utf-8"))).cluster
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"Cluster file {path} cannot be read ({error}).") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(key) for key in first["loc"] if key not in ("local", "slurm"))
        raise UsageError(f"Cluster file {path}: {place or 'cluster'}: {first['msg']}. Correct it there.") from None


@contextmanager
def connected(options: ClusterOptions) -> Iterator[tuple[Client, float]]:
    """A client of the cluster, and the time in s after which a silent worker counts as hanging.

    Raises:
        UsageError: no scheduler answers, or a package is missing.
    """
    if options.file is None:
        try:
            with Client(options.address, timeout=30) as client:
                yield client, SlurmCluster(kind="slurm").stall_s
        except (OSError, ValueError) as error:
            raise UsageError(f"No dask scheduler answers at {options.address} ({error}). Check --scheduler.") from error
        return
    found = read_cluster_file(options.file)
    with _start(found) as cluster, Client(cluster) as client:
        yield client, found.stall_s


def _start(options: LocalCluster | SlurmCluster) -> Any:
    if isinstance(options, LocalCluster):
        workers = {number: _local_worker(options, number) for number in range(options.workers)}
        return SpecCluster(workers, silence_logs="error")
    try:
        from dask_jobqueue import SLURMCluster
    except ImportError as error:
        raise UsageError("A slurm cluster needs a package that is not there: pip install 'abaw[slurm]'.") from error
    cluster = SLURMCluster(
        queue=options.queue,
        account=options.account,
        walltime=options.walltime,
        cores=options.cores,
        processes=1,
        memory=options.memory,
        job_script_prologue=list(options.prologue),
        job_extra_directives=[*([f"--gres=gpu:{options.gpus}"] if options.gpus else []), *options.directives],
        # one task at a time: a network fills a GPU, and the cores decode for it
        worker_extra_args=["--nthreads", "1", *(["--resources", "GPU=1"] if options.gpus else [])],
    )
    cluster.scale(jobs=options.jobs)
    return cluster


def _local_worker(options: LocalCluster, number: int) -> dict[str, Any]:
    environment = {"OMP_NUM_THREADS": str(options.threads)}
    resources = {}
    if options.gpus:
        environment["CUDA_VISIBLE_DEVICES"] = str(options.gpus[number % len(options.gpus)])
        resources = {"GPU": 1}
    settings = {"nthreads": 1, "env": environment, "resources": resources, "memory_limit": 0}
    return {"cls": Nanny, "options": settings}


@dataclass
class Follower:
    """What the workers have reported: frames of the latest try of each task, and of each worker."""

    reporter: Reporter
    n_shown: int = 0
    tasks: dict[int, tuple[str, int]] = field(default_factory=dict)
    workers: dict[str, tuple[int, float, float]] = field(default_factory=dict)

    def hear(self, event: tuple[float, Mapping[str, Any]]) -> None:
        """Take one report of a worker."""
        _, said = event
        now = time.monotonic()
        attempt, before = self.tasks.get(said["task"], ("", 0))
        self.tasks[said["task"]] = said["attempt"], said["frames"]
        n_new = said["frames"] - (before if attempt == said["attempt"] else 0)
        frames, first, _ = self.workers.get(said["worker"], (0, now, now))
        self.workers[said["worker"]] = frames + n_new, first, now
        total = sum(frames for _, frames in self.tasks.values())
        # a task that began anew counts from 0: the bar waits for it
        if total > self.n_shown:
            self.reporter.advance(total - self.n_shown, self.rates())
            self.n_shown = total

    def rates(self) -> str:
        """Frames a second of each worker since its first report."""
        each = [f"{frames / max(last - first, 1.0):.0f}" for frames, first, last in self.workers.values()]
        return f"{len(each)} workers: {' '.join(each[:8])}{' ...' if len(each) > 8 else ''} frames/s"

    def silent(self, worker: str, since: float, stall_s: float) -> bool:
        """True if a worker has said nothing for `stall_s`, counted from `since` where it never said anything."""
        last = self.workers.get(worker, (0, since, since))[2]
        return time.monotonic() - max(last, since) > stall_s


def run_on_cluster(stage: Stage, groups: Groups, options: ClusterOptions, summary: Summary, reporter: Reporter) -> None:
    """Extract groups of videos on a cluster; what was done, and what failed, goes into the summary.

    Raises:
        UsageError: there is no such cluster, or no worker came.
    """
    with connected(options) as (client, stall_s):
        try:
            client.wait_for_workers(1, timeout=WAIT_FOR_WORKERS_S)
        except TimeoutError as error:
            raise UsageError(
                f"No worker came within {WAIT_FOR_WORKERS_S:.0f} s. Look into the cluster's queue."
            ) from error
        follower = Follower(reporter)
        client.subscribe_topic(TOPIC, follower.hear)
        workers = client.scheduler_info(n_workers=-1)["workers"].values()
        # a task that asks for what no worker has would wait forever
        resources = {"GPU": 1} if any("GPU" in worker["resources"] for worker in workers) else None
        futures = {
            client.submit(
                extract_videos, stage.options, number, pending, names, retries=RETRIES, resources=resources, pure=False
            ): names
            for number, (pending, names) in enumerate(make_tasks(groups, len(workers)))
        }
        try:
            _follow(client, futures, follower, summary, stall_s)
        except KeyboardInterrupt:
            client.cancel(list(futures))
            summary.stopped = "interrupted; run the same command again to go on"


def make_tasks(groups: Groups, n_workers: int) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """The work in tasks of about equal numbers of frames, the largest videos first: features wanted, names of videos."""
    sizes = {
        pending: {video.name: len(video.crops().numbers) for video in videos} for pending, videos in groups.items()
    }
    total = sum(sum(by_name.values()) for by_name in sizes.values())
    frames_per_task = max(1, min(FRAMES_PER_TASK, total // (n_workers * TASKS_PER_WORKER)))
    tasks = []
    for pending, by_name in sizes.items():
        n_tasks = min(len(by_name), max(1, -(-sum(by_name.values()) // frames_per_task)))
        tasks += [(pending, tuple(names)) for names in split_evenly(by_name, n_tasks) if names]
    return tasks


def _follow(
    client: Client, futures: Mapping[Any, Sequence[str]], follower: Follower, summary: Summary, stall_s: float
) -> None:
    running, since = set(futures), time.monotonic()
    while running:
        try:
            finished = wait(running, timeout=LOOK_S, return_when="FIRST_COMPLETED").done
        except TimeoutError:
            finished = set()
        for future in finished:
            running.discard(future)
            if future.status == "finished":
                summary.add(future.result())
            else:
                error = future.exception()
                summary.failed |= {name: f"{type(error).__name__}: {error}" for name in futures[future]}
        if finished:
            continue
        busy = [worker for worker, keys in client.processing().items() if keys]
        hanging = [worker for worker in busy if follower.silent(worker, since, stall_s)]
        if hanging:
            client.restart_workers(hanging, raise_for_error=False)
            since = time.monotonic()


@lru_cache(maxsize=1)
def opened_stage(options: ExtractOptions) -> Stage:
    """The stage of this process, opened once for all tasks."""
    return Stage.open(options)


def extract_videos(options: ExtractOptions, task: int, pending: tuple[str, ...], names: tuple[str, ...]) -> Summary:
    """Extract some videos on a worker, which tells the driver how far it is.

    Args:
        task: number of the task.
        pending: the features that the videos lack.
    """
    stage, summary = opened_stage(options), Summary()
    videos = {video.name: video for video in stage.dataset.videos}
    worker, attempt = get_worker(), uuid.uuid4().hex
    n_frames, said = 0, time.monotonic()

    def tell(n: int) -> None:
        nonlocal n_frames, said
        n_frames += n
        if time.monotonic() - said > EVENT_S:
            say()

    def say() -> None:
        nonlocal said
        said = time.monotonic()
        worker.log_event(TOPIC, {"task": task, "attempt": attempt, "frames": n_frames, "worker": worker.address})

    say()
    stage.run({pending: [videos[name] for name in names]}, summary, tell)
    say()
    if summary.stopped:
        raise RuntimeError(summary.stopped)
    return summary
