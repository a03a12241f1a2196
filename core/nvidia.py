"""Why torch does not use the NVIDIA device of this machine, and what to do about it."""

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

# the oldest driver for each major version of CUDA, see "Minor Version Compatibility" in NVIDIA's CUDA release notes
OLDEST_DRIVERS = {11: (450, 80, 2), 12: (525, 60, 13), 13: (580, 65, 6)}
WHEELS = "pip install --force-reinstall 'torch>=2.8' torchvision"
# an index of wheels for drivers that are too old for the wheels of PyPI
OLDER_WHEELS, OLDER_CUDA = f"{WHEELS} --index-url https://download.pytorch.org/whl/cu126", 12


def has_nvidia_device(root: Path = Path("/")) -> bool:
    """True if the kernel of this machine knows an NVIDIA device, whether or not torch can use it.

    Args:
        root: where `dev` and `proc` are.
    """
    return count_nvidia_devices(root) > 0 or (root / "proc/driver/nvidia/version").exists()


def count_nvidia_devices(root: Path = Path("/")) -> int:
    """How many NVIDIA devices this machine, container or job has."""
    return len(_device_files(root))


def may_have_gpu(root: Path = Path("/")) -> bool:
    """False where torch certainly finds no GPU: on Linux without a device of NVIDIA, AMD (kfd) or Windows (dxg)."""
    others = any((root / "dev" / name).exists() for name in ("kfd", "dxg"))
    return sys.platform != "linux" or others or has_nvidia_device(root)


def why_no_gpu(
    torch_cuda: str | None,
    torch_warning: str = "",
    root: Path = Path("/"),
    environ: Mapping[str, str] = os.environ,
) -> str:
    """A sentence on why torch cannot use the NVIDIA device of this machine and what helps; "" without such a device.

    Args:
        torch_cuda: the CUDA version that torch was built for, `torch.version.cuda`.
        torch_warning: what torch said when it looked for a device.
        root: where `dev` and `proc` are.
    """
    if not has_nvidia_device(root):
        return ""
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip() in ("", "-1"):
        return f"CUDA_VISIBLE_DEVICES={visible!r} hides it: unset CUDA_VISIBLE_DEVICES."
    driver = driver_version(root)
    if torch_cuda is None:
        command = OLDER_WHEELS if driver and driver < OLDEST_DRIVERS[OLDER_CUDA + 1] else WHEELS
        return f"The installed torch has no CUDA: {command}"
    oldest = OLDEST_DRIVERS.get(int(torch_cuda.partition(".")[0]), ())
    if driver and driver < oldest:
        needed = f"The driver {_dotted(driver)} is too old for CUDA {torch_cuda}, which the installed torch needs: "
        needed += f"update the driver to {_dotted(oldest)} or later"
        return f"{needed}, or {OLDER_WHEELS}" if driver >= OLDEST_DRIVERS[OLDER_CUDA] else f"{needed}."
    files = _device_files(root)
    if not files:
        return (
            "This container or job has none of /dev/nvidia0, /dev/nvidia1, ...: start it with the GPU (docker run "
            "--gpus all, apptainer exec --nv, sbatch --gpus=1)."
        )
    if not any(os.access(file, os.R_OK | os.W_OK) for file in files):
        return f"/{files[0].relative_to(root)} may not be opened by this user or job: ask for a GPU (sbatch --gpus=1)."
    reason = f"torch says: {torch_warning.rstrip('.')}. " if torch_warning else ""
    return f"{reason}See whether `nvidia-smi` works."


def driver_version(root: Path = Path("/")) -> tuple[int, ...]:
    """The version of the NVIDIA driver that is loaded, such as (535, 104, 5); empty if there is none."""
    try:
        text = (root / "proc/driver/nvidia/version").read_text(errors="replace")
    except OSError:
        return ()
    match = re.search(r"^NVRM version:.*?\s(\d+(?:\.\d+)+)\s", text, re.MULTILINE)
    return tuple(int(part) for part in match[1].split(".")) if match else ()


def _device_files(root: Path) -> list[Path]:
    return sorted((root / "dev").glob("nvidia[0-9]*"))


def _dotted(version: tuple[int, ...]) -> str:
    """As NVIDIA writes it: 450.80.02."""
    return ".".join(f"{part:02}" for part in version)
