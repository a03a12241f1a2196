"""Which GPUs the workers of this machine take: those that this process may use, as CUDA_VISIBLE_DEVICES names them."""

import os
from collections.abc import Sequence

from abaw.core.errors import UsageError

VISIBLE = "CUDA_VISIBLE_DEVICES"
NAMES = ("GPU-", "MIG-")  # how the driver's names of GPUs and of parts of them begin, as `nvidia-smi -L` lists them
Gpu = int | str


def check_gpu(value: object) -> Gpu:
    """A GPU as it may be asked for: its number among those that are there, or its name.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and _is_number(value.strip()):
        return int(value)
    if isinstance(value, str) and value.strip().startswith(NAMES):
        return value.strip()
    raise ValueError(f"{value!r} is no GPU: take a number from 0 on, or a name such as GPU-8932f937 or MIG-1a2b3c4d")


def choose_gpus(gpus: Sequence[Gpu]) -> tuple[str, ...]:
    """What CUDA_VISIBLE_DEVICES has to be for each of the GPUs that were asked for.

    Args:
        gpus: numbers, which count the GPUs that this process may use, or names.

    Raises:
        UsageError: one of them is not there.
    """
    try:
        wanted = [check_gpu(gpu) for gpu in gpus]
    except ValueError as error:
        raise UsageError(f"gpus: {error}.") from None
    there = visible_gpus()
    return tuple(_find(gpu, there) for gpu in wanted)


def visible_gpus() -> tuple[str, ...] | None:
    """The GPUs that CUDA_VISIBLE_DEVICES leaves to this process, as it names them; None where it leaves all.

    As CUDA reads it: the list ends before the first entry that is no GPU, such as -1.
    """
    text = os.environ.get(VISIBLE)
    if text is None:
        return None
    found = []
    for entry in (part.strip() for part in text.split(",")):
        if not (_is_number(entry) or entry.startswith(NAMES)):
            break
        found.append(entry)
    return tuple(found)


def _find(gpu: Gpu, there: tuple[str, ...] | None) -> str:
    if there is None:
        return str(gpu) if isinstance(gpu, str) else _number(gpu, tuple(str(number) for number in range(_count())))
    if isinstance(gpu, int):
        return _number(gpu, there) if there else _refuse(gpu, there)
    if there and all(_is_number(entry) for entry in there):
        return gpu  # numbers say nothing of names
    same = [entry for entry in there if entry == gpu] or [entry for entry in there if _alike(entry, gpu)]
    return max(same[0], gpu, key=len) if len(same) == 1 else _refuse(gpu, there)


def _number(gpu: int, there: tuple[str, ...]) -> str:
    """The GPU of a number; a machine without any says nothing against it, its workers use the CPU."""
    if not there:
        return str(gpu)
    return there[gpu] if gpu < len(there) else _refuse(gpu, there)


def _count() -> int:
    import torch

    return torch.cuda.device_count()


def _alike(entry: str, gpu: str) -> bool:
    """Whether one name begins with the other: CUDA takes the first digits of a name, too."""
    return entry.startswith(gpu) or gpu.startswith(entry)


def _refuse(gpu: Gpu, there: tuple[str, ...]) -> str:
    text = os.environ.get(VISIBLE)
    because = "" if text is None else f", as {VISIBLE} is {text!r}"
    if not there:
        raise UsageError(f"gpus: there is no GPU {gpu}: this process may use none{because}. Leave gpus out.")
    listed = ", ".join(
        str(number) if entry == str(number) else f"{number} ({entry})" for number, entry in enumerate(there)
    )
    raise UsageError(f"gpus: there is no GPU {gpu}. Take one of those that this process may use{because}: {listed}.")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()
