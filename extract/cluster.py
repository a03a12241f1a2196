"""Clusters of dask for extraction: one that runs already, or one that is started from a file."""

import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Annotated, Any, Literal

from distributed import Client, Nanny, Scheduler, SpecCluster
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from abaw.errors import UsageError

STALL_S = 600.0
PATIENCE_S = 600.0
CONNECT_S = 30.0


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
    stall_s: float = Field(STALL_S, gt=0)


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
    stall_s: float = Field(STALL_S, gt=0)


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


@dataclass(frozen=True)
class Cluster:
    """A cluster that is there.

    Attributes:
        client: of its scheduler.
        n_workers: how many workers it will have; 0 where nobody knows.
        stall_s: a worker that has work and reports nothing for so long is started anew.
        patience_s: how long it may be without any worker.
    """

    client: Client
    n_workers: int = 0
    stall_s: float = STALL_S
    patience_s: float = PATIENCE_S


@contextmanager
def connected(options: ClusterOptions) -> Iterator[Cluster]:
    """The cluster that the options name, started if it is to be, for as long as the block runs.

    Raises:
        UsageError: no scheduler answers, the file is wrong, or a package is missing.
    """
    if options.file is None:
        with _reach(options.address) as client:
            yield Cluster(client)
        return
    found = read_cluster_file(options.file)
    with _start(found) as started, Client(started) as client:
        if isinstance(found, LocalCluster):
            yield Cluster(client, found.workers, found.stall_s)
        else:
            yield Cluster(client, found.jobs, found.stall_s, inf)  # jobs may wait in the queue for days


def _reach(address: str) -> Client:
    try:
        return Client(address, timeout=CONNECT_S)
    except (OSError, ValueError) as error:
        raise UsageError(f"No dask scheduler answers at {address} ({error}). Check --scheduler.") from error


def _start(options: LocalCluster | SlurmCluster) -> Any:
    if isinstance(options, LocalCluster):
        workers = {number: _local_worker(options, number) for number in range(options.workers)}
        scheduler = {"cls": Scheduler, "options": {"dashboard_address": ":0"}}
        return SpecCluster(workers, scheduler, silence_logs="error")
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
