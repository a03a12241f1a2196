"""PyTorch tensors, one file per video, opened without running code from them.

`<video>.pt` has a row for each frame. `<video>.mp4.img.<N>.pt`, `<video>.mp4.spec.<N>.pt` and `<name>.synt.img.<N>.pt`
have N rows that are spread over the clip.
"""

import pickle
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from abaw.core.errors import DataError
from abaw.core.names import composed
from abaw.datasets.video_files import SUFFIXES as VIDEO_SUFFIXES
from abaw.exchange.npy import Header
from abaw.exchange.source_rows import Rows, check_array, check_numbers, frame_numbers, kept_blocks, stamp, step_of
from abaw.media.tensors import is_plain, written_out

if TYPE_CHECKING:
    import torch

SUFFIX = ".pt"
SAMPLED = re.compile(r"(?P<clip>.+)\.(?P<kind>img|spec)\.(?P<n>\d{1,9})\.pt", re.IGNORECASE)
MADE = ".synt"  # of clips that were put together


@dataclass(frozen=True)
class TensorFile:
    """A video as a tensor (rows, *shape).

    Attributes:
        kind: "img" or "spec" where the name says so, else "".
        n_rows: that the name says; 0 where it says none.
    """

    name: str
    file: Path
    kind: str = ""
    n_rows: int = 0

    def digest(self) -> str:
        """sha256 over its file."""
        return stamp([self.file])

    @contextmanager
    def open(self) -> Iterator[Rows]:
        """Its rows."""
        place = str(self.file)
        tensor = load_tensor(self.file)
        check_array(Header(tuple(tensor.shape), np.dtype(np.float32), False), place)
        kept, numbers, n_frames = frame_numbers(len(tensor), None, None)
        check_numbers(numbers, n_frames, place)
        if self.n_rows not in (0, n_frames):
            raise DataError(
                f"{place} should have {self.n_rows} rows, as its name says; it has {n_frames}. Make it again."
            )
        shape = tuple(tensor.shape[1:])
        blocks = kept_blocks(lambda start, stop: tensor[start:stop].float().numpy(), kept, step_of(shape, np.float32))
        is_sampled = self.n_rows > 0
        yield Rows(
            numbers, n_frames, shape, np.dtype(np.float32), blocks, is_sampled=is_sampled, is_bare=not is_sampled
        )


def tensor_file(file: Path) -> TensorFile:
    """What the name of a file says."""
    found = SAMPLED.fullmatch(file.name)
    if not found:
        return TensorFile(composed(file.stem), file)
    clip = found["clip"].removesuffix(MADE)
    suffix = next((suffix for suffix in VIDEO_SUFFIXES if clip.lower().endswith(suffix)), "")
    return TensorFile(composed(clip[: len(clip) - len(suffix)]), file, found["kind"].lower(), int(found["n"]))


def load_tensor(file: Path) -> "torch.Tensor":
    """The tensor in a file, on the disk until it is used where the file is of the newer form.

    Raises:
        DataError: the file holds something else, would run code, or is cut off.
    """
    import torch

    try:
        try:
            found = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        except (RuntimeError, ValueError):  # the older form cannot be mapped
            found = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise DataError(f"{file} holds more than a tensor, which is not opened. Save the tensor alone.") from error
    except Exception as error:  # damaged bytes raise many types
        raise DataError(f"{file} is not a file of torch.save, or cut off. Copy it again.") from error
    if not isinstance(found, torch.Tensor) or not is_plain(found):
        raise DataError(f"{file} holds a {type(found).__name__}, not a dense tensor. Save the tensor alone.")
    if found.is_complex() or found.dtype == torch.bool:
        raise DataError(f"{file} holds values of type {found.dtype}; features are numbers. Save them as float16.")
    return written_out(found.detach(), file)
