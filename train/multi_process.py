"""Training one model in several processes, started by torchrun; their gradients are averaged.

`torchrun --nproc-per-node N -m -- abaw train ...` sets RANK, WORLD_SIZE and LOCAL_RANK; without them there is one
process and every function here does nothing. Each process draws the same windows and takes its share of every batch; the
loss is computed from all outputs, so that losses which are not means over examples, such as the CCC, are the same as in
one process. Batch normalisation of a head takes its statistics from the process's share; that of encoders which are
fine-tuned takes those of the whole batch, see `abaw.train.finetune.batch_statistics`.
"""

import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from abaw.core.errors import AbawError, UsageError
from abaw.train.data.windows import Windows, share

T = TypeVar("T")


def n_ranks() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Number of this process, from 0; process 0 writes and reports."""
    return dist.get_rank() if dist.is_initialized() else 0


def _launched() -> bool:
    """True if torchrun started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextmanager
def processes(device: torch.device) -> Iterator[None]:
    """Join the other processes, if torchrun started this one and no enclosing block has joined them.

    The process group ends with the block: nothing that holds the model may outlive it.

    Raises:
        UsageError: more processes than GPUs.
    """
    if not _launched() or dist.is_initialized():
        yield
        return
    if device.type == "cuda":
        # before any communication: otherwise all processes would use the first GPU
        torch.cuda.set_device(_process_gpu())
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
        # DDP objects that outlive the group abort the process at its end
        gc.collect()
        dist.barrier()
    finally:
        dist.destroy_process_group()


def process_device(device: torch.device) -> torch.device:
    """The GPU of this process if several processes run on GPUs; otherwise `device`."""
    if n_ranks() == 1 or device.type != "cuda":
        return device
    return _process_gpu()


def _process_gpu() -> torch.device:
    n_gpus, n_processes = torch.cuda.device_count(), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if n_processes > n_gpus:
        raise UsageError(f"{n_processes} processes need a GPU each, found {n_gpus}. Use --nproc-per-node {n_gpus}.")
    return torch.device("cuda", int(os.environ["LOCAL_RANK"]))


def wrap(model: nn.Module, device: torch.device) -> nn.Module:
    """The model with gradients averaged over the processes."""
    if n_ranks() == 1:
        return model
    return nn.parallel.DistributedDataParallel(model, device_ids=[device] if device.type == "cuda" else None)


def process_share(windows: Windows) -> Windows:
    """This process's part of a batch; the parts are of equal size, see `abaw.train.data.windows.share`."""
    return share(windows, rank(), n_ranks())


def gather(outputs: Tensor, n_windows: int, axis: int) -> Tensor:
    """The outputs of all processes for a batch, (..., windows, ...) along `axis`; gradients flow only to this process's."""
    if n_ranks() == 1:
        return outputs
    gathered = [torch.empty_like(outputs) for _ in range(n_ranks())]
    dist.all_gather(gathered, outputs.detach().contiguous())
    gathered[rank()] = outputs
    return torch.cat(gathered, dim=axis).narrow(axis, 0, n_windows)


def add_up(values: Tensor, device: torch.device) -> None:
    """Replace values in host memory by their sum over all processes."""
    if n_ranks() > 1:
        moved = values.to(device)
        dist.all_reduce(moved)
        values.copy_(moved)


def from_all(value: T) -> list[T]:
    """The value of each process, in the order of their numbers."""
    if n_ranks() == 1:
        return [value]
    values: list[Any] = [None] * n_ranks()
    dist.all_gather_object(values, value)
    return values


def same_buffers(model: nn.Module) -> None:
    """Copy the buffers of process 0, such as running statistics, to all processes."""
    if n_ranks() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)


def from_first(make: Callable[[], T]) -> T:
    """The result of calling `make` in process 0, in every process; an AbawError is raised in all of them."""
    if n_ranks() == 1:
        return make()
    box: list[Any] = [None, None]
    if rank() == 0:
        try:
            box[0] = make()
        except AbawError as error:
            box[1] = error
    dist.broadcast_object_list(box, src=0)
    if box[1] is not None:
        raise box[1]
    return cast(T, box[0])


def wait() -> None:
    """Wait until all processes get here."""
    if n_ranks() > 1:
        dist.barrier()
