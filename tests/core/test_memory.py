"""Free memory: the least of the limits of machine, control groups, batch job and shell."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from abaw.core.memory import free_memory, is_in_memory

GB = 10**9
ROW = "{id} 1 0:{id} {inside} {mount} rw,relatime - {kind} {kind} rw{options}\n"
V1, V2 = "sys/fs/cgroup/memory", "sys/fs/cgroup"


def machine(root: Path, groups: str, *mounts: tuple[str, str, str, str], available: int = 20 * GB) -> Path:
    """A root with `proc`.

    Args:
        groups: /proc/self/cgroup.
        mounts: group that is the root of the mount, mount point, kind of file system, options of it.
    """
    lines = [
        ROW.format(id=number, inside=inside, mount=mount, kind=kind, options=options)
        for number, (inside, mount, kind, options) in enumerate(mounts, start=30)
    ]
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text(f"MemTotal: 99 kB\nMemAvailable:   {available // 1024} kB\n")
    (root / "proc/self/cgroup").write_text(groups)
    (root / "proc/self/mountinfo").write_text("".join(lines))
    return root


def group(folder: Path, limit: int | str, usage: int, droppable: int, **others: int | str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    is_first = "memory" in folder.parts
    key = "total_inactive_file" if is_first else "inactive_file"
    files: dict[str, int | str] = {"memory.stat": f"cache 5\nactive_file 7\n{key} {droppable}"}
    files |= {"memory.limit_in_bytes": limit, "memory.usage_in_bytes": usage} if is_first else {}
    files |= {} if is_first else {"memory.max": limit, "memory.current": usage}
    for name, content in {**files, **{f"memory.{name}": content for name, content in others.items()}}.items():
        (folder / name).write_text(f"{content}\n")


def test_what_the_machine_has(tmp_path: Path) -> None:
    root = machine(tmp_path, "0::/\n", ("/", "/sys/fs/cgroup", "cgroup2", ""), available=5120 * 1024)
    assert free_memory(root, {}) == 5120 * 1024
    (root / "proc/meminfo").unlink()
    assert free_memory(root, {}) > 100 * 2**20, "of the machine that runs this test"


def test_version_2_with_a_limit_further_up_and_a_soft_one(tmp_path: Path) -> None:
    root = machine(tmp_path, "0::/user/job\n", ("/", "/sys/fs/cgroup", "cgroup2", ""))
    group(root / V2 / "user/job", "max", 2 * GB, 0)
    assert free_memory(root, {}) == 20 * GB
    group(root / V2 / "user", 9 * GB, 4 * GB, 3 * GB // 2)
    assert free_memory(root, {}) == 6.5 * GB
    group(root / V2 / "user/job", 9 * GB, 2 * GB, 0, high=5 * GB)
    assert free_memory(root, {}) == 3 * GB


def test_version_2_in_a_container_that_does_not_see_its_group(tmp_path: Path) -> None:
    """docker --cgroupns=host mounts the container's group at the root."""
    root = machine(tmp_path, "0::/docker/abc\n", ("/docker/abc", "/sys/fs/cgroup", "cgroup2", ""))
    group(root / V2, 3 * GB, GB, 0)
    assert free_memory(root, {}) == 2 * GB
    (root / "proc/self/cgroup").write_text("0::/../../elsewhere\n")
    assert free_memory(root, {}) == 2 * GB


def test_version_1_with_parents_next_to_an_empty_version_2(tmp_path: Path) -> None:
    mounts = (
        ("/", "/sys/fs/cgroup/cpu", "cgroup", ",cpu"),
        ("/", "/sys/fs/cgroup/memory", "cgroup", ",memory"),
        ("/", "/sys/fs/cgroup/unified", "cgroup2", ""),
    )
    root = machine(tmp_path, "7:cpu,cpuacct:/other\n4:memory:/slurm/job 1/step\n0::/\n", *mounts)
    group(root / V1 / "slurm/job 1/step", 2**63 - 4096, GB // 2, 0)
    group(root / V1 / "slurm/job 1", 4 * GB, 3 * GB, GB // 4)
    group(root / V1, 2**63 - 4096, 11 * GB, 0)
    assert free_memory(root, {}) == 1.25 * GB
    group(root / V1 / "slurm/job 1/step", GB, 3 * GB, 0)
    assert free_memory(root, {}) == 0, "never negative"


def test_mount_points_with_spaces(tmp_path: Path) -> None:
    root = machine(tmp_path, "4:memory:/a\n", ("/", r"/c\040g/memory", "cgroup", ",hugetlb,memory"))
    group(root / "c g/memory/a", 4 * GB, GB, 0)
    assert free_memory(root, {}) == 3 * GB


@pytest.mark.parametrize(
    ("variables", "share_mib"),
    [
        ({"SLURM_MEM_PER_NODE": "4096"}, 4096),
        ({"SLURM_MEM_PER_CPU": "1000", "SLURM_CPUS_ON_NODE": "4"}, 4000),
        ({"SLURM_MEM_PER_CPU": "1000", "SLURM_CPUS_PER_TASK": "3"}, 3000),
        ({"SLURM_MEM_PER_NODE": "0"}, None),
        ({"SLURM_MEM_PER_NODE": "all"}, None),
    ],
)
def test_share_of_a_batch_job(tmp_path: Path, variables: dict[str, str], share_mib: int | None) -> None:
    root = machine(tmp_path, "")
    free = free_memory(root, variables)
    if share_mib is None:
        assert free == 20 * GB
        return
    resident_kib = int((Path("/proc/self/statm").read_text()).split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024
    assert share_mib * 2**20 - 1024 * 2 * resident_kib - GB < free < share_mib * 2**20 - 10 * 2**20, "minus its own"


@pytest.mark.parametrize("limit", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_limits_of_the_shell(tmp_path: Path, limit: str) -> None:
    root, kind = machine(tmp_path, ""), getattr(resource, limit)
    before = resource.getrlimit(kind)
    free = []
    try:
        for n_bytes in (2**43, 2**43 + 2**30):
            resource.setrlimit(kind, (n_bytes, before[1]))
            free.append(free_memory(root, {}))
    finally:
        resource.setrlimit(kind, before)
    assert free == [20 * GB] * 2, "far away"
    try:
        resource.setrlimit(kind, (15 * GB, before[1]))
        used = 15 * GB - free_memory(root, {})
    finally:
        resource.setrlimit(kind, before)
    field = {"RLIMIT_AS": 0, "RLIMIT_DATA": 5}[limit]
    counted = int(Path("/proc/self/statm").read_text().split()[field]) * os.sysconf("SC_PAGE_SIZE")
    assert abs(used - counted) < 2**26


def test_whether_a_folder_is_in_memory(tmp_path: Path) -> None:
    device = tmp_path.stat().st_dev
    for kind in ("tmpfs", "ext4"):
        root = tmp_path / kind
        (root / "proc/self").mkdir(parents=True)
        line = f"3 1 {os.major(device)}:{os.minor(device)} / /x rw shared:1 - {kind} {kind} rw\n"
        (root / "proc/self/mountinfo").write_text("2 1 9999:1 / /y rw - tmpfs tmpfs rw\n" + line)
        assert is_in_memory(tmp_path, root) == (kind == "tmpfs")
    if Path("/dev/shm").is_dir() and sys.platform == "linux":
        assert is_in_memory(Path("/dev/shm"))


def test_limit_of_a_real_control_group() -> None:
    parent = Path("/sys/fs/cgroup/memory")
    own = parent / f"abaw-test-{os.getpid()}"
    try:
        own.mkdir()
        (own / "memory.limit_in_bytes").write_text("700000000")
    except OSError:
        pytest.skip("no control groups of version 1 can be made here")
    code = (
        "import os, pathlib; pathlib.Path(os.environ['GROUP'], 'cgroup.procs').write_text(str(os.getpid()))\n"
        "from abaw.core.memory import free_memory; content = bytes(10**8); print(free_memory(environment={}))"
    )
    try:
        command = [sys.executable, "-c", code.replace("bytes(10**8)", "bytearray(b'x') * 10**8")]
        ran = subprocess.run(command, env={**os.environ, "GROUP": str(own)}, capture_output=True, text=True, check=True)
    finally:
        own.rmdir()
    assert 450_000_000 < int(ran.stdout) < 599_000_000
