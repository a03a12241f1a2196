"""Dask clusters for extraction: one that runs already, or one that is started from a file."""

import gc
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from distributed import Client, Security
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from abaw.core.errors import UsageError, first_line
from abaw.core.toml_files import read_toml
from abaw.extract.cluster.gpus import Gpu, check_gpu
from abaw.extract.cluster.local import MEMORY, THREADS, LocalWorkers
from abaw.extract.cluster.process_settings import MAX_LOCAL_DEATHS, abandoned_waits_silenced, dask_settings

if TYPE_CHECKING:
    from abaw.extract.cluster.slurm import SlurmWorkers

STALL_S = 600.0
PATIENCE_S = 600.0
CONNECT_S = 15.0  # to the scheduler, at first and after the connection was lost
LOST_WORKER_S = 600  # dask gives up a worker that takes longer to restart; its default of 15 s fails on a busy machine
NO_PAGES = ("--no-dashboard", "--dashboard-address", "127.0.0.1:0")  # `dask worker` always starts a web server
LOST_JOB_S = 120  # a worker without a scheduler, or a slurm job without its worker, ends then: shared disks may be slow


class LocalCluster(BaseModel):
    """Processes on this machine.

    Attributes:
        workers: number of workers.
        threads: of each worker, for its networks on the CPU.
        gpus: the GPUs that the workers take in turn: numbers among those that this process may use, or names; empty for
            the CPU.
        stall_s: seconds after which a worker that has work and reports nothing is restarted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["local"] = "local"
    workers: int = Field(2, ge=1)
    threads: int = Field(1, ge=1)
    gpus: tuple[Annotated[Gpu, BeforeValidator(check_gpu)], ...] = ()
    stall_s: float = Field(STALL_S, gt=0)


class SlurmCluster(BaseModel):
    """Slurm jobs with one worker each; started through dask-jobqueue, and replaced when they end.

    Attributes:
        jobs: number of slurm jobs. A worker drives one GPU: for more GPUs ask for more jobs.
        queue, account, walltime, cores, memory: of each slurm job, as slurm takes them.
        gpus: of each slurm job, 0 or 1.
        logs: folder that gets a file for each slurm job, abaw-worker-<number>.log; created if it is missing.
        prologue: shell lines that run before the worker, such as `module load`.
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
    gpus: int = Field(1, ge=0, le=1)
    logs: Path = Path("slurm-logs")
    prologue: tuple[str, ...] = ()
    directives: tuple[str, ...] = ()
    stall_s: float = Field(STALL_S, gt=0)


class ClusterFile(BaseModel):
    """The content of a cluster file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cluster: Annotated[LocalCluster | SlurmCluster, Field(discriminator="kind")]


@dataclass(frozen=True)
class ClusterOptions:
    """Which cluster to use.

    Attributes:
        address: of a scheduler; ignored if there is a file.
        file: cluster file to start a cluster from.
    """

    address: str = ""
    file: Path | None = None


def read_cluster_file(path: Path) -> LocalCluster | SlurmCluster:
    """Read and check a cluster file: a TOML table `cluster` with `kind = "local"` or `"slurm"`.

    Raises:
        UsageError: it cannot be read, is not TOML, or has an option that is unknown or invalid.
    """
    try:
        content = read_toml(path)
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"Cluster file {path} cannot be read ({first_line(error)}).") from error
    try:
        return ClusterFile.model_validate(content).cluster
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"] if part not in ("local", "slurm"))
        problem = first["msg"].removeprefix("Value error, ")
        raise UsageError(f"Cluster file {path}: {key or 'cluster'}: {problem}. Correct it there.") from None


def workers_have_gpus(options: ClusterOptions) -> bool | None:
    """Whether the workers of a cluster that is to be started compute on GPUs; None if that is unknown.

    Raises:
        UsageError: the file is invalid.
    """
    cluster = read_cluster_file(options.file) if options.file is not None else None
    if isinstance(cluster, SlurmCluster):
        return cluster.gpus > 0
    return True if cluster is not None and cluster.gpus else None


@dataclass(frozen=True)
class Cluster:
    """A cluster that runs.

    Attributes:
        client: of its scheduler.
        n_workers: how many workers it will have; 0 where nobody knows.
        stall_s: seconds after which a worker that has work and reports nothing is restarted.
        patience_s: seconds that it may be without any worker.
        trouble: returns why no further worker will come; empty while one may.
        deaths: a job is given up when so many workers died while they were at it.
    """

    client: Client
    n_workers: int = 0
    stall_s: float = STALL_S
    patience_s: float = PATIENCE_S
    trouble: Callable[[], str] = str
    deaths: int = 4  # machines fail, and slurm jobs are taken away


@contextmanager
def connected(options: ClusterOptions) -> Iterator[Cluster]:
    """Connect to the cluster that the options name, started if necessary, for as long as the block runs.

    Raises:
        UsageError: no scheduler answers, the file is invalid, a package is missing, or slurm refuses.
    """
    with abandoned_waits_silenced():
        if options.file is None:
            with _connect(options.address) as client:
                yield Cluster(client)
            return
        cluster = read_cluster_file(options.file)
        with started(cluster) as workers, Client(workers) as client:
            if isinstance(cluster, LocalCluster):
                trouble, deaths = workers.trouble, MAX_LOCAL_DEATHS
                yield Cluster(client, cluster.workers, cluster.stall_s, trouble=trouble, deaths=deaths)
            else:
                # slurm jobs may wait in the queue for days
                yield Cluster(client, cluster.jobs, cluster.stall_s, inf, workers.trouble)


def _connect(address: str) -> Client:
    try:
        return Client(address, timeout=CONNECT_S)
    except (OSError, ValueError, TypeError) as error:  # TypeError: tls without certificates
        reason = str(error)
    gc.collect()  # ends what is left of the client: collected while the next one starts, it would wait for itself
    raise UsageError(f"No dask scheduler answers at {address} ({reason}). Check --scheduler.")


@contextmanager
def started(options: LocalCluster | SlurmCluster) -> "Iterator[LocalWorkers | SlurmWorkers]":
    """Start a scheduler and its workers; they end with the block.

    Raises:
        UsageError: they cannot be started, a package is missing, or slurm refuses.
    """
    is_local = isinstance(options, LocalCluster)
    with dask_settings(LOST_WORKER_S if is_local else LOST_JOB_S):
        try:
            workers = _start(options)
        except (RuntimeError, ValueError, OSError) as error:
            raise UsageError(
                f"The cluster cannot be started ({first_line(error)}). "
                "Correct the cluster file, or the network interface."
            ) from error
        with workers:
            yield workers


def _start(options: LocalCluster | SlurmCluster) -> "LocalWorkers | SlurmWorkers":
    if isinstance(options, LocalCluster):
        return LocalWorkers(options.workers, options.threads, options.gpus)
    return _start_slurm(options)


def _start_slurm(options: SlurmCluster) -> "SlurmWorkers":
    if shutil.which("sbatch") is None:
        raise UsageError("A slurm cluster needs the command sbatch, which is missing here. Run abaw where slurm is.")
    try:
        from abaw.extract.cluster.slurm import SlurmWorkers

        security = Security.temporary()
    except ImportError as error:
        raise UsageError(
            "A slurm cluster needs a package that is missing: pip install '.[slurm]' in abaw's folder."
        ) from error
    try:
        options.logs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"The folder for the logs cannot be created ({error}). Choose another one.") from error
    directives = [
        f"--output={options.logs}/%x-%j.log",
        *(["--gres=gpu:1"] if options.gpus else []),
        *options.directives,
    ]
    environment = MEMORY | dict.fromkeys(THREADS, str(options.cores))
    return SlurmWorkers(
        options.jobs,
        options.logs,
        security,
        death_timeout=LOST_JOB_S,
        job_name="abaw-worker",
        queue=options.queue,
        account=options.account,
        walltime=options.walltime,
        job_cpu=options.cores,
        job_mem=options.memory,
        # one task at a time: a network fills a GPU, and the cores decode for it
        cores=1,
        processes=1,
        memory=0,  # dask pauses workers long before their memory is full; slurm keeps its limit itself
        job_extra_directives=directives,
        job_script_prologue=[*(f"export {name}={value}" for name, value in environment.items()), *options.prologue],
        worker_extra_args=[*NO_PAGES, *(["--resources", "GPU=1"] if options.gpus else [])],
    )
