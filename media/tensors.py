"""Tensors of VGAF's clips, as people share them: `<video>.mp4.img.<N>.pt` and `<video>.mp4.spec.<N>.pt`.

Only their names and numbers of frames are published. Every plain layout of images is accepted, with pixels from 0 to 1 or
0 to 255, or normalised for a network. Which network, the values say: undone, pixels are whole numbers from 0 to 255.
"""

import pickle
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from abaw.core.errors import DataError, first_line
from abaw.core.unpacking import claims_of

if TYPE_CHECKING:
    from torch import Tensor

ROUNDING = 1e-3  # how far values may be outside [0, 1]
# means and standard deviations of red, green and blue, of pixels from 0 to 1
NORMALISATIONS = {
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
# How far pixels are from whole numbers on average, where the right normalisation is undone: float16 gives .05, a wrong
# one .25.
MOST_OFF_WHOLE = 0.1
HIGHEST_NORMALISED = 2.7  # white, in the blue of ImageNet
MOST_OUTSIDE = 1.0  # how far a pixel may be outside 0 to 255: float16 gives .2
# a grey image as three channels repeats its values 3 times, windows with a step of 1 as often as they are long
MAX_REPEATS, MAX_REPEATED_BYTES = 64, 10**9


def read_image_tensor(file: Path, normalised: str = "") -> NDArray[np.uint8]:
    """Images of a tensor file: (N, height, width, 3) uint8 RGB.

    Accepts (N, 3, height, width) and (N, height, width, 3), with integers from 0 to 255, or floats from 0 to 1 or from
    0 to 255, or floats that were normalised: `(pixel / 255 - mean) / deviation`.

    Args:
        normalised: for which network, a name of `NORMALISATIONS`; empty to tell from the values.

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
    if str(tensor.dtype) == "torch.uint8" and not normalised:
        return np.ascontiguousarray(tensor.numpy())
    low, high = float(tensor.min()), float(tensor.max())
    if normalised or (tensor.is_floating_point() and _looks_normalised(tensor, low, high)):
        return _denormalised(tensor.float().numpy(), normalised, file)
    if not (low >= -ROUNDING and high <= 255 + ROUNDING):  # also if there is a NaN
        raise DataError(
            f"{file} has pixels from {low:.3g} to {high:.3g}; images should have 0 to 1 or 0 to 255, or be normalised. "
            "Save them in one of these ranges."
        )
    is_unit = tensor.is_floating_point() and high <= 1 + ROUNDING
    scaled = tensor.float() * (255 if is_unit else 1)
    return np.ascontiguousarray(scaled.round().clamp(0, 255).byte().numpy())


def read_spectrogram_tensor(file: Path) -> NDArray[np.float32]:
    """Spectrograms of a tensor file, (N, 1, bands, steps), as they are.

    Accepts (N, 1, bands, steps) and (N, bands, steps) of numbers.

    Raises:
        DataError: it cannot be read, does not hold exactly one tensor, has another shape or values that are not finite.
    """
    tensor = _load(file)
    if tensor.ndim == 3:
        tensor = tensor[:, None]
    if tensor.ndim != 4 or tensor.shape[1] != 1 or not tensor.numel():
        raise DataError(
            f"{file} holds a tensor of shape {tuple(tensor.shape)}; spectrograms are (N, 1, bands, steps) or "
            "(N, bands, steps). Save them in one of these shapes."
        )
    values = tensor.float().numpy()
    if not np.isfinite(values).all():
        raise DataError(f"{file} has values that are not finite. Create it again.")
    return values


def _looks_normalised(tensor: "Tensor", low: float, high: float) -> bool:
    """True if there are values below 0, or none that is large and some that are neither shares nor whole numbers."""
    if low < -ROUNDING:
        return True
    return 1 + ROUNDING < high <= HIGHEST_NORMALISED and bool((tensor != tensor.round()).any())


def _denormalised(values: NDArray[np.float32], normalised: str, file: Path) -> NDArray[np.uint8]:
    """(N, height, width, 3) normalised values as pixels."""
    fitting = {}
    for name in [normalised] if normalised else NORMALISATIONS:
        means, deviations = (np.array(numbers, dtype=np.float32) for numbers in NORMALISATIONS[name])
        pixels = (values * deviations + means) * 255
        off_whole = float(np.abs(pixels - np.rint(pixels)).mean())
        is_inside = pixels.min() >= -MOST_OUTSIDE and pixels.max() <= 255 + MOST_OUTSIDE  # False if there is a NaN
        if is_inside and (normalised or off_whole <= MOST_OFF_WHOLE):
            fitting[name] = pixels
    if len(fitting) == 1:
        (pixels,) = fitting.values()
        return np.rint(pixels).clip(0, 255).astype(np.uint8)
    pixel_range = f"{file} has pixels from {values.min():.3g} to {values.max():.3g}"
    if normalised:
        raise DataError(
            f"{pixel_range}, which images normalised for {normalised} cannot have. Leave --tensors out, or save 0 to 1."
        )
    names = " or ".join(f"--tensors normalised={name}" for name in NORMALISATIONS)
    raise DataError(
        f"{pixel_range}: they seem to be normalised, but the values do not say for which network. Choose {names}, or save 0 to 1."
    )


def _load(file: Path) -> "Tensor":
    """The tensor in a file, loaded without running code from it."""
    import torch

    if claims := claims_of(file):
        raise DataError(f"{file} is not read: {claims}. Save the tensor again with torch.save.")
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
