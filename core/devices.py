"""Devices that networks run on, and their random states."""

import random
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from abaw.core.errors import UsageError, first_line
from abaw.core.nvidia import count_nvidia_devices, may_have_gpu, why_no_gpu

if TYPE_CHECKING:
    import torch


NAMES = re.compile(r"auto|cpu|mps|cuda(:\d+)?")
CHOICES = "Choose cpu, cuda, cuda:N or mps"


def check_device(name: str, root: Path = Path("/")) -> None:
    """Check a device as far as that can be done without loading torch.

    Args:
        root: where `dev` and `proc` are.

    Raises:
        UsageError: the name is unknown, or this machine certainly has no such device.
    """
    if not NAMES.fullmatch(name):
        raise UsageError(f"Device {name!r} cannot be used: it is unknown. {CHOICES}.")
    if name.startswith("cuda") and not may_have_gpu(root):
        raise UsageError(f"Device {name!r} cannot be used: this machine has no GPU. Choose cpu.")
    if name == "mps" and sys.platform != "darwin":
        raise UsageError(
            "Device 'mps' cannot be used: it is the GPU of Apple's machines. Choose cpu, or cuda for NVIDIA's."
        )
    n = count_nvidia_devices(root)
    if n:
        _check_number(name, n)


def pick_device(name: str) -> "torch.device":
    """The torch device called `name`; "auto" is a GPU if there is one.

    Raises:
        UsageError: the device is unknown or cannot be used.
    """
    import torch

    if name == "auto":
        return torch.device("cpu" if _no_gpu_because() is not None else "cuda")
    if name.startswith("cuda"):
        _check_gpu(name)
    if name == "mps" and not torch.backends.mps.is_available():
        raise UsageError("Device 'mps' cannot be used: torch has no GPU of Apple here. Choose cpu.")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"Device {name!r} cannot be used: {first_line(error)}. {CHOICES}.") from error
    return device


def has_float64(device: "torch.device") -> bool:
    """False for the GPUs of Apple, which compute in float32 at most."""
    return device.type != "mps"


def describe_device(name: str, precision: str = "") -> list[str]:
    """The first line of a command that computes, such as `Device: cuda:0 (NVIDIA H200), bf16`.

    A second line says why "auto" is the CPU on a machine that has an NVIDIA device, and what to do.

    Args:
        precision: of the networks, if it is known.

    Raises:
        UsageError: the device is unknown or cannot be used.
    """
    import torch

    device = pick_device(name)
    after = f", {precision}" if precision else ""
    if device.type == "cuda":
        number = torch.cuda.current_device() if device.index is None else device.index
        return [f"Device: cuda:{number} ({torch.cuda.get_device_name(number)}){after}"]
    if device.type == "mps":
        return [f"Device: mps{after}"]
    n_threads = torch.get_num_threads()
    lines = [f"Device: cpu ({n_threads} thread{'s' * (n_threads != 1)}){after}"]
    why = _no_gpu_because() if name == "auto" else ""
    return [*lines, f"Warning: the GPU of this machine is not used. {why}"] if why else lines


def _no_gpu_because() -> str | None:
    """Why torch cannot use a GPU: "" on a machine without an NVIDIA device, None if it can use one."""
    import torch

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if torch.cuda.is_available():
            return None
    said = first_line(caught[0].message) if caught and isinstance(caught[0].message, Warning) else ""
    if torch.version.hip:  # AMD's build of torch, which calls its devices cuda, too
        return ""
    return why_no_gpu(torch.version.cuda, said)


def _check_gpu(name: str) -> None:
    import torch

    why = _no_gpu_because()
    if why is not None:
        raise UsageError(f"Device {name!r} cannot be used. {why or 'This machine has no GPU: choose cpu.'}")
    _check_number(name, torch.cuda.device_count())


def _check_number(name: str, n: int) -> None:
    if name.startswith("cuda:") and int(name.partition(":")[2]) >= n:
        known = "cuda:0 is the only GPU" if n == 1 else f"the GPUs are cuda:0 to cuda:{n - 1}"
        raise UsageError(f"Device {name!r} cannot be used: {known} here.")


@contextmanager
def one_thread(applies: bool = True) -> Iterator[None]:
    """Torch computes in the calling thread alone inside the block, if that applies.

    Where other threads keep the cores busy, torch's threads, which wait for the slowest at every step, would stall.
    """
    import torch

    n_threads = torch.get_num_threads()
    if applies:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


@contextmanager
def own_random_state(seed: int) -> Iterator[None]:
    """Seed torch inside the block; outside, the random states of torch, numpy and Python stay as they were."""
    import numpy as np
    import torch

    on_gpus = torch.cuda.is_available() and torch.cuda.is_initialized()
    of_python, of_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002  the caller's state
    of_mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if on_gpus else []):
            # torch.manual_seed would also seed GPUs that are not in use yet, once they are
            torch.default_generator.manual_seed(seed)
            if on_gpus:
                torch.cuda.manual_seed_all(seed)
            if of_mps is not None:
                torch.mps.manual_seed(seed)
            yield
    finally:
        if of_mps is not None:
            torch.mps.set_rng_state(of_mps)
        random.setstate(of_python)
        np.random.set_state(of_numpy)  # noqa: NPY002
