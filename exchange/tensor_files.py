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
from abaw.core.unpacking import claims_of
from abaw.datasets.video_files import SUFFIXES as VIDEO_SUFFIXES
from abaw.exchange.npy import Header
from abaw.exchange.source_rows import Rows, check_array, check_numbers, frame_numbers, selected_blocks, step_of
from abaw.exchange.source_stamps import sample_stamp, stamp
from abaw.media.tensors import is_plain, written_out

if TYPE_CHECKING:
    import torch

SUFFIX = ".pt"
SAMPLED = re.compile(r"(?P<clip>.+)\.(?P<kind>img|spec)\.(?P<n>\d{1,9})\.pt", re.IGNORECASE)
MADE = ".synt"  # in the names of synthetic clips


@dataclass(frozen=True)
class TensorFile:
    """A video as a tensor (rows, *shape).

    Attributes:
        kind: "img" or "spec" if it is in the name, else "".
        n_rows: the number of rows in the name; 0 if there is no number.
    """

    name: str
    file: Path
    kind: str = ""
    n_rows: int = 0

    def digest(self) -> str:
        """sha256 over its file."""
        return stamp([self.file])

    def content(self) -> str:
        """See `SourceVideo`."""
        return sample_stamp([self.file])

    @contextmanager
    def open(self) -> Iterator[Rows]:
        """Its rows."""
        location = str(self.file)
        tensor = load_tensor(self.file)
        check_array(Header(tuple(tensor.shape), np.dtype(np.float32), False), location)
        is_kept, numbers, n_frames = frame_numbers(len(tensor), None, None)
        check_numbers(numbers, n_frames, location)
        if self.n_rows not in (0, n_frames):
            raise DataError(
                f"{location} should have {self.n_rows} rows by its name, but has {n_frames}. Create it again."
            )
        shape = tuple(tensor.shape[1:])
        blocks = selected_blocks(
            lambda start, stop: tensor[start:stop].float().numpy(), is_kept, step_of(shape, np.float32)
        )
        is_sampled = self.n_rows > 0
        yield Rows(
            numbers, n_frames, shape, np.dtype(np.float32), blocks, is_sampled=is_sampled, is_bare=not is_sampled
        )


def tensor_file(file: Path) -> TensorFile:
    """The tensor file with the clip, kind and number of rows in its name."""
    match = SAMPLED.fullmatch(file.name)
    if not match:
        return TensorFile(composed(file.stem), file)
    clip = match["clip"].removesuffix(MADE)
    suffix = next((suffix for suffix in VIDEO_SUFFIXES if clip.lower().endswith(suffix)), "")
    return TensorFile(composed(clip[: len(clip) - len(suffix)]), file, match["kind"].lower(), int(match["n"]))


def load_tensor(file: Path) -> "torch.Tensor":
    """The tensor in a file. If the file has the newer format, the values stay on disk until they are used.

    Raises:
        DataError: the file holds something else, would run code, or is cut off.
    """
    import torch

    if claims := claims_of(file):
        raise DataError(f"{file} is not read: {claims}. Save the tensor again with torch.save.")
    try:
        try:
            tensor = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        except (RuntimeError, ValueError):  # the older format cannot be mapped
            tensor = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise DataError(f"{file} holds more than a tensor and is not opened. Save the tensor alone.") from error
    except Exception as error:  # damaged bytes raise many types
        raise DataError(f"{file} is not a file of torch.save, or is cut off. Copy it again.") from error
    if not isinstance(tensor, torch.Tensor) or not is_plain(tensor):
        raise DataError(f"{file} holds a {type(tensor).__name__}, not a dense tensor. Save the tensor alone.")
    if tensor.is_complex() or tensor.dtype == torch.bool:
        raise DataError(f"{file} holds values of type {tensor.dtype}; features are numbers. Save them as float16.")
    return written_out(tensor.detach(), file)
