"""Clusters of dask for extraction: one that runs already, or one that is started from a file."""

import gc
import logging
import shutil
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Annotated, Any, Literal

from distributed import Client
from distributed.client import AllExit
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from abaw.core.errors import UsageError, first_line
from abaw.extract.cluster.gpus import Gpu, check_gpu
from abaw.extract.cluster.local import DEATHS, MEMORY, THREADS, LocalWorkers

STALL_S = 600.0
PATIENCE_S = 600.0
CONNECT_S = 15.0  # to the scheduler, at first and where the connection was lost


class LocalCluster(BaseModel):
    """Processes on this machine.

    Attributes:
        workers: how many.
        threads: of each, for its networks on the CPU.
        gpus: those that the workers take in turn: numbers among the GPUs that this process may use, or their names;
            none without.
        stall_s: a worker that reports nothing for so long while it has work is started anew.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["local"] = "local"
    workers: int = Field(2, ge=1)
    threads: int = Field(1, ge=1)
    gpus: tuple[Annotated[Gpu, BeforeValidator(check_gpu)], ...] = ()
    stall_s: float = Field(STALL_S, gt=0)


class SlurmCluster(BaseModel):
    """Jobs of slurm with one worker each; started through dask-jobqueue, and replaced when they end.

    Attributes:
        jobs: how many. A worker drives one GPU: for more GPUs ask for more jobs.
        queue, account, walltime, cores, memory: of each job, as slurm takes them.
        gpus: of each job, 0 or 1.
        logs: folder that gets a file for each job, abaw-worker-<number>.log; made if it is not there.
        prologue: lines of the shell before the worker starts, such as `module load`.
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
    """Which cluster: the address of a scheduler, or a file to start one from."""

    address: str = ""
    file: Path | None = None


def read_cluster_file(path: Path) -> LocalCluster | SlurmCluster:
    """Read and check a cluster file: a TOML table `cluster` with `kind = "local"` or `"slurm"`.

    Raises:
        UsageError: it cannot be read, is no TOML, or has an option that is unknown or does not fit.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"Cluster file {path} cannot be read ({first_line(error)}).") from error
    try:
        return ClusterFile.model_validate(content).cluster
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(key) for key in first["loc"] if key not in ("local", "slurm"))
        why = first["msg"].removeprefix("Value error, ")
        raise UsageError(f"Cluster file {path}: {place or 'cluster'}: {why}. Correct it there.") from None


def workers_have_gpus(options: ClusterOptions) -> bool | None:
    """Whether the workers of a cluster that is to be started compute on GPUs; None where nothing says so.

    Raises:
        UsageError: the file is wrong.
    """
    found = read_cluster_file(options.file) if options.file is not None else None
    if isinstance(found, SlurmCluster):
        return found.gpus > 0
    return True if found is not None and found.gpus else None


@dataclass(frozen=True)
class Cluster:
    """A cluster that is there.

    Attributes:
        client: of its scheduler.
        n_workers: how many workers it will have; 0 where nobody knows.
        stall_s: a worker that has work and reports nothing for so long is started anew.
        patience_s: how long it may be without any worker.
        trouble: says why no further worker will come; empty while one may.
        deaths: when so many workers have died that were at an order, it is taken to be the cause.
    """

    client: Client
    n_workers: int = 0
    stall_s: float = STALL_S
    patience_s: float = PATIENCE_S
    trouble: Callable[[], str] = str
    deaths: int = 4  # machines fail, and jobs are taken away


@contextmanager
def connected(options: ClusterOptions) -> Iterator[Cluster]:
    """The cluster that the options name, started if it is to be, for as long as the block runs.

    Raises:
        UsageError: no scheduler answers, the file is wrong, a package is missing, or slurm refuses.
    """
    logging.getLogger("asyncio").addFilter(_matters)
    if options.file is None:
        with _reach(options.address) as client:
            yield Cluster(client)
        return
    found = read_cluster_file(options.file)
    with _started(found) as started, Client(started) as client:
        if isinstance(found, LocalCluster):
            yield Cluster(client, found.workers, found.stall_s, trouble=started.trouble, deaths=DEATHS)
        else:
            # jobs may wait in the queue for days
            yield Cluster(client, found.jobs, found.stall_s, inf, started.trouble)


def _matters(record: logging.LogRecord) -> bool:
    """Whether a record is no word of dask to itself, left behind where a result is not waited for any longer."""
    return not (record.exc_info and record.exc_info[0] is AllExit)


def _reach(address: str) -> Client:
    try:
        return Client(address, timeout=CONNECT_S)
    except (OSError, ValueError, TypeError) as error:  # TypeError: tls without certificates
        why = str(error)
    gc.collect()  # ends what is left of the client: found while the next one starts, it would wait for itself
    raise UsageError(f"No dask scheduler answers at {address} ({why}). Check --scheduler.")


def _started(options: LocalCluster | SlurmCluster) -> Any:
    try:
        return _start(options)
    except (RuntimeError, ValueError, OSError) as error:
        raise UsageError(
            f"The cluster cannot be started ({first_line(error)}). Correct the cluster file, or the network interface."
        ) from error


def _start(options: LocalCluster | SlurmCluster) -> Any:
    if isinstance(options, LocalCluster):
        return LocalWorkers(options.workers, options.threads, options.gpus)
    return _start_slurm(options)


def _start_slurm(options: SlurmCluster) -> Any:
    if shutil.which("sbatch") is None:
        raise UsageError("A slurm cluster needs the command sbatch, and there is none here. Call abaw where slurm is.")
    try:
        from abaw.extract.cluster.slurm import SlurmWorkers
    except ImportError as error:
        raise UsageError(
            "A slurm cluster needs a package that is not there: pip install '.[slurm]' in abaw's folder."
        ) from error
    try:
        options.logs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"The folder of the jobs' logs cannot be made ({error}). Choose another one.") from error
    directives = [
        f"--output={options.logs}/%x-%j.log",
        *(["--gres=gpu:1"] if options.gpus else []),
        *options.directives,
    ]
    environment = MEMORY | dict.fromkeys(THREADS, str(options.cores))
    return SlurmWorkers(
        options.jobs,
        options.logs,
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
        worker_extra_args=["--resources", "GPU=1"] if options.gpus else [],
    )
