"""How much memory this process may still take: what the machine has, and what a container or a batch job may use of it."""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath

import psutil

# files of a control group: its limits, what is in use, and the key in memory.stat of file contents that can be dropped
VERSION_1 = (("memory.limit_in_bytes",), "memory.usage_in_bytes", "total_inactive_file")
VERSION_2 = (("memory.max", "memory.high"), "memory.current", "inactive_file")
MIB = 2**20  # SLURM counts in these


def free_memory(root: Path = Path("/"), environment: Mapping[str, str] | None = None) -> int:
    """Bytes that this process may take until the machine, its container, its batch job or a limit of the shell ends it.

    The least of what the machine has, the control groups that it is in (both versions, with all that are around them),
    SLURM's share of the node, and `ulimit`. File contents that the kernel can drop count as free.

    Args:
        root: where `proc` and the control groups are.
        environment: variables of SLURM; by default those of this process.
    """
    left = [_of_machine(root), *_of_groups(root), *_of_job(os.environ if environment is None else environment)]
    return max(0, min([*left, *_of_shell()]))


def gigabytes(n_bytes: float) -> str:
    """A size in GB, for a sentence or a table."""
    return f"{n_bytes / 1e9:.1f}" if n_bytes >= 1e9 else f"{n_bytes / 1e9:.2f}"


def is_in_memory(folder: Path, root: Path = Path("/")) -> bool:
    """True if the files of a folder are kept in memory, as those of /tmp are on some systems.

    Raises:
        OSError: there is no such folder.
    """
    device = folder.stat().st_dev
    name = f"{os.major(device)}:{os.minor(device)}"
    with suppress(OSError):  # not Linux
        for line in (root / "proc/self/mountinfo").read_text().splitlines():
            before, _, after = line.partition(" - ")
            if before.split()[2:3] == [name]:
                return after.split()[0] in ("tmpfs", "ramfs")
    return False


def _of_machine(root: Path) -> int:
    with suppress(OSError, StopIteration, ValueError):  # not every system has it
        lines = (root / "proc/meminfo").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1])
    return psutil.virtual_memory().available


def _of_groups(root: Path) -> Iterator[int]:
    """What the limits of the control groups of this process leave."""
    try:
        paths = dict(_group_paths((root / "proc/self/cgroup").read_text()))
        mounts = (root / "proc/self/mountinfo").read_text()
    except OSError:  # not Linux
        return
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) < 5 or len(kind) < 3 or kind[0] not in paths:
            continue
        if kind[0] == "cgroup" and "memory" not in kind[2].split(","):
            continue
        mount = root / _unescaped(fields[4]).lstrip("/")
        group = _folder_of(paths[kind[0]], _unescaped(fields[3]), mount)
        # a limit of any group around it counts, too
        for folder in (group, *group.parents):
            yield from _left_in(folder, *(VERSION_1 if kind[0] == "cgroup" else VERSION_2))
            if folder == mount:
                break


def _group_paths(lines: str) -> Iterator[tuple[str, str]]:
    """The group of this process by the kind of file system, from `/proc/self/cgroup`."""
    for line in lines.splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            yield "cgroup2", path
        elif "memory" in controllers.split(","):
            yield "cgroup", path


def _folder_of(path: str, mounted: str, mount: Path) -> Path:
    """The folder of a group; the root of the mount where a container does not see it.

    Args:
        path: of the group, from the root of the hierarchy.
        mounted: the group that is the root of the mount.
    """
    inside = PurePosixPath(path)
    if inside.is_relative_to(mounted):
        inside = inside.relative_to(mounted)
    folder = mount / str(inside).lstrip("/")
    return folder if ".." not in inside.parts and folder.is_dir() else mount


def _left_in(folder: Path, limit_files: tuple[str, ...], usage_file: str, droppable: str) -> Iterator[int]:
    limits = [limit for name in limit_files if (limit := _number_in(folder / name)) is not None]
    usage = _number_in(folder / usage_file)
    if limits and usage is not None:
        yield min(limits) - usage + _statistic(folder / "memory.stat", droppable)


def _number_in(file: Path) -> int | None:
    """The number in a file; None if it has none, such as `max`, or does not exist."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


def _statistic(file: Path, key: str) -> int:
    with suppress(OSError, ValueError):
        return int(dict(line.split() for line in file.read_text().splitlines())[key])
    return 0


def _unescaped(path: str) -> str:
    r"""A path of mountinfo, where spaces and the like are octal: `\040`."""
    return path.encode().decode("unicode_escape").encode("latin-1").decode(errors="surrogateescape")


def _of_job(environment: Mapping[str, str]) -> Iterator[int]:
    """What is left of the memory that SLURM gave to the job on this node."""
    share_mib = _whole(environment.get("SLURM_MEM_PER_NODE"))
    if not share_mib:  # 0 is all of the node
        n_cpus = environment.get("SLURM_CPUS_ON_NODE") or environment.get("SLURM_CPUS_PER_TASK")
        share_mib = _whole(environment.get("SLURM_MEM_PER_CPU")) * _whole(n_cpus)
    if share_mib:
        yield share_mib * MIB - _used_by_job(environment.get("SLURM_JOB_ID"))


def _whole(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() else 0


def _used_by_job(job: str | None) -> int:
    """Memory of the processes of a job on this node: of those that this process descends from, and all that they started."""
    top = psutil.Process()
    with suppress(psutil.Error):
        for parent in top.parents():
            if job is None or parent.environ().get("SLURM_JOB_ID") != job:
                break
            top = parent
    used = 0
    for process in (top, *top.children(recursive=True)):
        with suppress(psutil.Error):  # it has just ended
            memory = process.memory_info()
            used += memory.rss - getattr(memory, "shared", 0)
    return used


def _of_shell() -> Iterator[int]:
    """What `ulimit -v` and `ulimit -d` leave."""
    try:
        import resource
    except ImportError:  # Windows
        return
    memory = psutil.Process().memory_info()
    for limit, used in (("RLIMIT_AS", memory.vms), ("RLIMIT_DATA", getattr(memory, "data", 0))):
        soft = resource.getrlimit(getattr(resource, limit))[0]
        if soft != resource.RLIM_INFINITY:
            yield soft - used
