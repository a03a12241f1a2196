"""Features of a table in the memory of a GPU, where windows are gathered without a copy from the host."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from abaw.train.data.stored_rows import StoredRows
from abaw.train.data.table import Table

RESERVE = 0.25  # share of a GPU's memory that is left to the model, its gradients and the batches
BLOCK_BYTES = 2**28  # copied at a time


@dataclass(frozen=True)
class DeviceInputs:
    """Features of all rows of a table on a device.

    Attributes:
        values: by feature, (rows, *shape) float16 or float32, as in the table.
        masks: by feature, (rows,) bool.
    """

    values: Mapping[str, Tensor]
    masks: Mapping[str, Tensor]

    @classmethod
    def copy(cls, table: Table, device: torch.device) -> "DeviceInputs":
        """Copy the features of a table to a device.

        Raises:
            torch.OutOfMemoryError: the device has too little memory.
        """
        values = {name: _copied(array, device) for name, array in table.values.items()}
        values |= {name: _copied(rows, device) for name, rows in table.stored.items()}
        return cls(values, {name: _copied(mask, device) for name, mask in table.masks.items()})

    def gather(self, rows: NDArray[np.int64], inside: NDArray[np.bool_]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Inputs of windows on the device, see `abaw.train.data.samples.Samples`."""
        device = next(iter(self.masks.values())).device
        index, is_inside = (send(torch.from_numpy(array), device) for array in (rows.ravel(), inside))
        features = {
            name: values.index_select(0, index).view(*rows.shape, *values.shape[1:])
            for name, values in self.values.items()
        }
        masks = {name: mask.index_select(0, index).view(rows.shape) & is_inside for name, mask in self.masks.items()}
        return features, masks


def place(table: Table, device: torch.device) -> Table:
    """The table with its features on a GPU instead of in host memory; unchanged on a CPU, or if they do not fit."""
    if device.type != "cuda" or not _has_room(table, device):
        return table
    try:
        return replace(table, values={}, stored={}, on_device=DeviceInputs.copy(table, device))
    except torch.OutOfMemoryError:  # another process took the memory
        torch.cuda.empty_cache()
        return table


def send(values: Tensor, device: torch.device) -> Tensor:
    """Values on a device. A copy to a GPU goes through pinned memory, and this process does not wait for it."""
    if device.type != "cuda" or values.is_cuda:
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)


def _has_room(table: Table, device: torch.device) -> bool:
    """True if the features leave `RESERVE` of the device's memory free."""
    n_bytes = sum(array.nbytes for arrays in (table.values, table.masks) for array in arrays.values())
    n_bytes += sum(rows.nbytes for rows in table.stored.values())
    free_bytes, total_bytes = torch.cuda.mem_get_info(device)
    return n_bytes <= free_bytes - RESERVE * total_bytes


def _copied(array: NDArray | StoredRows, device: torch.device) -> Tensor:
    """A copy on the device, made in blocks, since arrays may be larger than the free host memory."""
    values = torch.empty(array.shape, dtype=torch.from_numpy(np.empty(0, array.dtype)).dtype, device=device)
    step = max(1, BLOCK_BYTES // max(1, array.dtype.itemsize * math.prod(array.shape[1:])))
    for start in range(0, len(array), step):
        rows = np.arange(start, min(len(array), start + step))
        block = array.take(rows) if isinstance(array, StoredRows) else array[start : start + step]
        values[start : start + step] = torch.from_numpy(block)
    return values
