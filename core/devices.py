"""Devices that networks run on, and their random states."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from abaw.core.errors import UsageError, first_line

if TYPE_CHECKING:
    import torch


def pick_device(name: str) -> "torch.device":
    """The torch device called `name`; "auto" is a GPU if there is one.

    Raises:
        UsageError: the device is unknown or cannot be used.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(
            f"Device {name!r} cannot be used ({first_line(error)}). Choose cpu, cuda or cuda:N."
        ) from error
    return device


@contextmanager
def own_random_state(seed: int) -> Iterator[None]:
    """Seed torch inside the block; outside, the random states of torch, numpy and Python stay as they were."""
    import numpy as np
    import torch

    on_gpus = torch.cuda.is_available() and torch.cuda.is_initialized()
    of_python, of_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002  the caller's state
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if on_gpus else []):
            # torch.manual_seed would also seed GPUs that are not in use yet, once they are
            torch.default_generator.manual_seed(seed)
            if on_gpus:
                torch.cuda.manual_seed_all(seed)
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)  # noqa: NPY002
