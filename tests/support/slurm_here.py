"""A slurm of one node on this machine, for tests: with its own ports, key and folder, and GPUs that are only names."""

import ctypes
import os
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scancel", "scontrol", "sinfo", "squeue")
N_GPUS, N_CPUS, MEMORY_MIB = (
    4,
    32,
    200_000,
)  # those of a larger machine: slurm does not bind jobs to cores or memory here
DEADLINE_S = 60.0
DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG

CONFIGURATION = """\
ClusterName=here
SlurmctldHost={node}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={daemon_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/pgid
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,batch_sched_delay=0,sched_interval=2
SlurmdParameters=config_overrides
KillWait=2
GresTypes=gpu
NodeName={node} NodeAddr=127.0.0.1 CPUs={n_cpus} RealMemory={memory} Gres=gpu:{n_gpus}
PartitionName=gpu Nodes={node} Default=YES MaxTime=INFINITE
"""


class NoSlurmError(Exception):
    """Slurm cannot be started here; the reason is one sentence."""


@dataclass(frozen=True)
class Slurm:
    """A running slurm; commands find it through their environment."""

    folder: Path
    environment: dict[str, str]

    def call(self, *command: object, **options: object) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        settings = {"env": self.environment, "capture_output": True, "text": True, "timeout": 120, **options}
        return subprocess.run([str(part) for part in command], **settings)

    def jobs(self, *options: str) -> dict[str, str]:
        """The states of all jobs that have not ended, by their numbers."""
        queue = self.call("squeue", "--noheader", "--array", "--format=%i %T", *options)
        return dict(line.split() for line in queue.stdout.splitlines())


@contextmanager
def running_slurm(environment: dict[str, str]) -> Iterator[Slurm]:
    """Start slurm; at the end all of it is stopped, with every process of its jobs.

    Raises:
        NoSlurmError: it cannot be started here.
    """
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        raise NoSlurmError(f"needs slurm and munge, and {missing[0]} is missing")
    if os.geteuid() != 0:
        raise NoSlurmError("needs root, to start slurm's daemons")
    with ExitStack() as stack:
        # munge needs folders that everybody may enter, unlike those of pytest
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="abaw-slurm-", ignore_cleanup_errors=True))
        )
        folder.chmod(0o755)
        slurm = Slurm(folder, {**environment, "SLURM_CONF": str(folder / "slurm.conf")})
        daemons: list[subprocess.Popen[bytes]] = []
        stack.callback(end_all, slurm, daemons)
        try:
            configure(folder)
        except OSError as error:
            raise NoSlurmError(f"no devices can be created in {folder} ({error})") from error
        files = {"socket": "munge.socket", "key-file": "munge.key", "pid-file": "munged.pid", "seed-file": "seed"}
        paths = [f"--{option}={folder / name}" for option, name in {**files, "log-file": "munged.log"}.items()]
        start(slurm, daemons, ["munged", "--foreground", *paths], (folder / "munge.socket").exists)
        start(slurm, daemons, ["slurmctld", "-D"], lambda: slurm.call("scontrol", "ping").returncode == 0)
        state = ("sinfo", "--noheader", "--format=%T")
        start(slurm, daemons, ["slurmd", "-D"], lambda: slurm.call(*state).stdout.strip() == "idle")
        yield slurm


def configure(folder: Path) -> None:
    """Write slurm's and munge's files, and make devices for the GPUs."""
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.touch(0o600)
    key.write_bytes(os.urandom(128))
    lines = []
    for number in range(N_GPUS):
        # slurm sets CUDA_VISIBLE_DEVICES for device files only: these are all /dev/null
        os.mknod(folder / f"gpu{number}", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        lines.append(f"Name=gpu File={folder}/gpu{number} Flags=nvidia_gpu_env\n")
    (folder / "gres.conf").write_text("".join(lines))
    ports = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    controller_port, daemon_port = (port.getsockname()[1] for port in ports)
    for port in ports:
        port.close()
    text = CONFIGURATION.format(
        node=socket.gethostname().partition(".")[0],
        folder=folder,
        controller_port=controller_port,
        daemon_port=daemon_port,
        n_cpus=N_CPUS,
        memory=MEMORY_MIB,
        n_gpus=N_GPUS,
    )
    (folder / "slurm.conf").write_text(text)


def start(
    slurm: Slurm, daemons: list[subprocess.Popen[bytes]], command: Sequence[str], is_up: Callable[[], bool]
) -> None:
    """Start a further daemon, and wait until it is up.

    Raises:
        NoSlurmError: it ended, or it is not up after a minute; with the last line of its log.
    """
    log = slurm.folder / f"{command[0]}.out"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            env=slurm.environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            preexec_fn=lambda: ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL),
        )
    daemons.append(process)
    if not soon(lambda: process.poll() is not None or is_up()) or process.poll() is not None:
        lines = log.read_text(errors="replace").splitlines()
        raise NoSlurmError(f"{command[0]} does not start: {lines[-1] if lines else 'it printed nothing'}")


def soon(is_so: Callable[[], bool]) -> bool:
    """Wait until a condition holds; false if it does not within a minute."""
    end = time.monotonic() + DEADLINE_S
    while not is_so():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def end_all(slurm: Slurm, daemons: Sequence[subprocess.Popen[bytes]]) -> None:
    """Kill every process that has this slurm's environment: daemons, jobs, and processes that these have left behind."""
    variable = f"SLURM_CONF={slurm.environment['SLURM_CONF']}".encode()

    def are_gone() -> bool:
        pids = []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has just ended
                if variable in (folder / "environ").read_bytes().split(b"\0"):
                    pids.append(int(folder.name))
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not pids

    soon(are_gone)
    for process in daemons:
        process.wait()
