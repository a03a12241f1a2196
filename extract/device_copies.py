"""Copies between the host and the device that computes: uint8 images there, features back.

On a GPU they run on streams of their own while it computes, from and into pinned buffers that are used again. Elsewhere
the same calls are plain conversions.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

N_UPLOADS = 3  # buffers of images: one is filled while others are on their way

Fetch = Callable[[], NDArray[np.float32]]


class Copies(Protocol):
    """Brings images to a device and features from it."""

    def upload(self, images: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
        """Images (height, width, 3) of one size as (n, height, width, 3) uint8 on the device."""

    def download(self, features: torch.Tensor) -> Fetch:
        """Start to copy features to the host; the result waits for them and returns them as float32. Call it once."""


class Event(Protocol):
    """What of `torch.cuda.Event` is used."""

    def synchronize(self) -> None:
        """Wait until everything before it is done."""


class CopyStream:
    """A CUDA stream for copies. Work of the current stream of the device is called computation.

    Args:
        device: a CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self._stream = device, torch.cuda.Stream(device)

    def pinned(self, n_bytes: int) -> torch.Tensor:
        """New pinned host memory, (n_bytes,) uint8."""
        return torch.empty(n_bytes, dtype=torch.uint8, pin_memory=True)

    def to_device(self, pinned: torch.Tensor) -> tuple[torch.Tensor, Event]:
        """Copy pinned memory to the device. Computation that follows waits for the copy; the host does not.

        Returns:
            The copy, and an event after which the pinned memory may be filled again.
        """
        with torch.cuda.stream(self._stream):
            on_device = pinned.to(self._device, non_blocking=True)
        sent = self._event()
        computation = torch.cuda.current_stream(self._device)
        computation.wait_event(sent)
        # the memory belongs to this stream: without this it could be filled again while it is still being read
        on_device.record_stream(computation)
        return on_device, sent

    def to_host(self, values: torch.Tensor, pinned: torch.Tensor) -> Event:
        """Copy what the computation so far gives into pinned memory.

        Returns:
            An event after which the pinned memory has the values.
        """
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            pinned.copy_(values, non_blocking=True)
        values.record_stream(self._stream)
        return self._event()

    def _event(self) -> torch.cuda.Event:
        event = torch.cuda.Event(blocking=True)  # waiting leaves the processor to the decoders
        event.record(self._stream)
        return event


class PlainCopies:
    """Copies of a device without streams, such as the CPU, where images and float32 features are not copied at all."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def upload(self, images: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
        """See `Copies`."""
        return torch.from_numpy(np.stack(images)).to(self._device)

    def download(self, features: torch.Tensor) -> Fetch:
        """See `Copies`."""
        return features.detach().float().cpu().numpy


class StreamedCopies:
    """Copies on streams, one for each direction; pinned buffers are used again once their copy is done.

    Args:
        up: stream of the images.
        down: stream of the features.
    """

    def __init__(self, up: CopyStream, down: CopyStream) -> None:
        self._up, self._down = up, down
        self._sent: deque[tuple[torch.Tensor, Event]] = deque()
        self._free: list[torch.Tensor] = []

    def upload(self, images: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
        """See `Copies`."""
        shape = (len(images), *images[0].shape)
        n_bytes = math.prod(shape)
        buffer = self._unsent(n_bytes)
        pinned = buffer[:n_bytes].view(shape)
        np.stack(images, out=pinned.numpy())
        on_device, sent = self._up.to_device(pinned)
        self._sent.append((buffer, sent))
        return on_device

    def download(self, features: torch.Tensor) -> Fetch:
        """See `Copies`."""
        values = features.detach().float().contiguous()
        n_bytes = values.numel() * values.element_size()
        buffer = self._unused(n_bytes)
        pinned = buffer[:n_bytes].view(torch.float32).view(values.shape)
        arrived = self._down.to_host(values, pinned)

        def fetch() -> NDArray[np.float32]:
            arrived.synchronize()
            fetched: NDArray[np.float32] = pinned.numpy().copy()
            self._free.append(buffer)
            return fetched

        return fetch

    def _unsent(self, n_bytes: int) -> torch.Tensor:
        """A buffer that no copy reads: a new one, or the oldest one."""
        if len(self._sent) == N_UPLOADS:
            buffer, sent = self._sent.popleft()
            sent.synchronize()
            if len(buffer) >= n_bytes:
                return buffer
        return self._up.pinned(n_bytes)

    def _unused(self, n_bytes: int) -> torch.Tensor:
        """A buffer whose values were fetched: the smallest that is large enough, or a new one."""
        fitting = [number for number, buffer in enumerate(self._free) if len(buffer) >= n_bytes]
        if not fitting:
            return self._down.pinned(n_bytes)
        return self._free.pop(min(fitting, key=lambda number: len(self._free[number])))


def copies_of(device: torch.device) -> Copies:
    """The way to copy to a device and back."""
    if device.type != "cuda":
        return PlainCopies(device)
    return StreamedCopies(CopyStream(device), CopyStream(device))
