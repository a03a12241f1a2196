"""Tensors with the pictures of VGAF's clips, as people share them: `<video>.mp4.img.<N>.pt`.

Only their names and numbers of frames are published. Every plain layout of images is accepted; pixels that were
normalised for a network are not, because it is unknown for which one.
"""

import pickle
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from abaw.core.errors import DataError, first_line

if TYPE_CHECKING:
    from torch import Tensor

ROUNDING = 1e-3  # how far values may be outside [0, 1]
# a grey image as three channels repeats its values 3 times, windows with a step of 1 as often as they are long
MAX_REPEATS, MAX_REPEATED_BYTES = 64, 10**9


def read_image_tensor(file: Path) -> NDArray[np.uint8]:
    """Images of a tensor file: (N, height, width, 3) uint8 RGB.

    Accepts (N, 3, height, width) and (N, height, width, 3), with integers from 0 to 255, or floats from 0 to 1 or from
    0 to 255.

    Raises:
        DataError: it cannot be read, does not hold exactly one tensor, or has values outside these ranges.
    """
    tensor = _load(file)
    if tensor.ndim != 4 or 3 not in (tensor.shape[1], tensor.shape[3]):
        raise DataError(
            f"{file} holds a tensor of shape {tuple(tensor.shape)}; images are (N, 3, height, width) or "
            "(N, height, width, 3). Save them in one of these shapes."
        )
    if not tensor.numel():
        raise DataError(f"{file} holds no pixels: its shape is {tuple(tensor.shape)}. Create it again.")
    if tensor.shape[1] == 3:
        tensor = tensor.permute(0, 2, 3, 1)
    if str(tensor.dtype) == "torch.uint8":
        return np.ascontiguousarray(tensor.numpy())
    low, high = float(tensor.min()), float(tensor.max())
    is_unit = tensor.is_floating_point() and high <= 1 + ROUNDING
    if not (low >= -ROUNDING and high <= 255 + ROUNDING):  # also if there is a NaN
        raise DataError(
            f"{file} has pixels from {low:.3g} to {high:.3g}; images should have 0 to 1 or 0 to 255. If they "
            "were normalised for a network, undo that: multiply with its standard deviation and add its mean."
        )
    scaled = tensor.float() * (255 if is_unit else 1)
    return np.ascontiguousarray(scaled.round().clamp(0, 255).byte().numpy())


def _load(file: Path) -> "Tensor":
    """The tensor in a file, loaded without running code from it."""
    import torch

    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise DataError(
            f"{file} holds more than tensors, or is a pickle that torch did not write; opening it could run code, so "
            "it was not opened. Save the tensor alone: torch.save(tensor, NEW_FILE)."
        ) from error
    except Exception as error:  # damaged bytes raise many types
        reason = first_line(error).rstrip(".")
        raise DataError(f"{file} cannot be read as a tensor ({reason}). Replace it, or delete it.") from error
    if not isinstance(content, torch.Tensor):
        raise DataError(f"{file} holds a {type(content).__name__}, not one tensor. Save the tensor alone.")
    if not is_plain(content) or content.is_complex():
        raise DataError(
            f"{file} holds a {content.layout} tensor of {content.dtype}, not plain numbers. Save them as float16."
        )
    return written_out(content.detach(), file)


def is_plain(tensor: "Tensor") -> bool:
    """True if a tensor has plain values: it is not sparse, quantized or without data."""
    import torch

    return tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized


def written_out(tensor: "Tensor", file: Path) -> "Tensor":
    """A tensor with all of its values, including those that a file stores once after `expand` or `unfold`.

    Raises:
        DataError: the file stores far fewer values than the tensor claims.
    """
    n_bytes, n_stored = tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes()
    if n_bytes <= n_stored:
        return tensor
    if n_bytes > min(MAX_REPEATS * n_stored, MAX_REPEATED_BYTES):
        raise DataError(
            f"{file} holds {n_stored:,} bytes for {n_bytes:,} bytes of values, which is not expanded. Save "
            "tensor.contiguous() instead."
        )
    return tensor.contiguous()
