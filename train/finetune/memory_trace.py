"""Memory that a network takes, measured operation by operation on a few images, and what more images will take."""

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.weak import WeakIdKeyDictionary

FEW, MORE = 2, 3  # a batch of one takes other paths: some copies fall away, and batch statistics need two


@dataclass(frozen=True)
class Trace:
    """Bytes that are in use after each of some operations, in addition to those before the first one.

    Attributes:
        fixed: (operations,) int64, however many images there are, such as gradients of weights.
        each: (operations,) int64, for each image.
    """

    fixed: NDArray[np.int64]
    each: NDArray[np.int64]

    def levels(self, n: int) -> NDArray[np.int64]:
        """(operations,) bytes in use with n images."""
        return self.fixed + self.each * n


class StorageRecorder(TorchDispatchMode):
    """Records the bytes of all tensors that are alive, after each operation inside its block.

    Tensors that an operation makes count until the last reference to their storage ends, those of autograd among them;
    what was there before does not. Buffers within an operation are not seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self._known, self._live, self._start = WeakIdKeyDictionary(), 0, 0
        self._levels: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, and count what it makes."""
        for value in tree_iter((args, kwargs)):
            if isinstance(value, Tensor):
                self._known.setdefault(value.untyped_storage(), None)
        results = func(*args, **(kwargs or {}))
        for value in tree_iter(results):
            if isinstance(value, Tensor) and (storage := value.untyped_storage()) not in self._known:
                size = storage.nbytes()
                self._known[storage] = weakref.finalize(storage, self._drop, size)
                self._live += size
        self._levels.append(self._live - self._start)
        return results

    def _drop(self, size: int) -> None:
        self._live -= size

    def take(self) -> list[int]:
        """Bytes after each operation since the last call, above those at that call; the last number is for now."""
        levels = [*self._levels, self._live - self._start]
        self._levels, self._start = [], self._live
        return levels


def trace(run: Callable[[int], Sequence[list[int]]]) -> list[Trace]:
    """What `run` records for `FEW` and for `MORE` images, as functions of their number.

    Args:
        run: takes the number of images, and gives one or several recordings.
    """
    few, more = run(FEW), run(MORE)
    return [_line(np.array(a), np.array(b)) for a, b in zip(few, more, strict=True)]


def _line(few: NDArray[np.int64], more: NDArray[np.int64]) -> Trace:
    if len(few) != len(more):  # another way through the network: only the peaks and the ends can be compared
        few, more = (np.array([levels.max(), levels[-1]]) for levels in (few, more))
    each = (more - few) // (MORE - FEW)
    return Trace(few - each * FEW, each)


def peak(levels: Sequence[NDArray[np.int64]]) -> int:
    """The most bytes in use, where recordings follow each other, and each begins with what those before it keep."""
    most, base = 0, 0
    for recorded in levels:
        most = max(most, base + int(recorded.max()))
        base += int(recorded[-1])
    return most


def bytes_of(tensors: Sequence[Tensor]) -> int:
    """Bytes of some tensors."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
