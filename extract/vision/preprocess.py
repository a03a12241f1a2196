"""Images on the device: uint8 crops become normalised model input in one step."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F

from abaw.extract.spec import ImageInput
from abaw.extract.vision.views import HFLIP


def prepare_images(images: torch.Tensor, image: ImageInput, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Resize (antialiased) and normalise a batch on the device that it lies on.

    Args:
        images: (n, height, width, 3) uint8 RGB.
        image: what the network expects.
        dtype: of the result.

    Returns:
        (n, 3, size, size), in channels-last memory.
    """
    with _one_thread(images.device):
        # the permuted view is channels-last already, so nothing is copied here
        pixels = images.permute(0, 3, 1, 2)
        if pixels.shape[-2:] != (image.size, image.size):
            pixels = _resize(pixels, image)
        # whole rows of pixels, red, green and blue in turn, are what a processor multiplies fastest
        rows = pixels.permute(0, 2, 3, 1).reshape(len(images), image.size, -1).float()
        std = torch.tensor(image.std, device=images.device) * 255
        shift = (-torch.tensor(image.mean, device=images.device) * 255 / std).repeat(image.size)
        scaled = torch.addcmul(shift, rows, (1 / std).repeat(image.size), out=rows)
        return scaled.view(len(images), image.size, image.size, 3).permute(0, 3, 1, 2).to(dtype)


@contextmanager
def _one_thread(device: torch.device) -> Iterator[None]:
    """On a CPU, work in the calling thread alone.

    Decoding keeps the other cores busy, and torch's threads, which wait for the last of them at every step, would
    stand still behind it.
    """
    n_threads = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


def _resize(pixels: torch.Tensor, image: ImageInput) -> torch.Tensor:
    # Of 8-bit images torch has a fast path on the CPU alone; it rounds to whole grey levels as Pillow does.
    pixels = pixels if pixels.device.type == "cpu" else pixels.float()
    size = (image.size, image.size)
    resized = F.interpolate(pixels, size, mode=image.interpolation, antialias=True, align_corners=False)
    return resized if pixels.dtype == torch.uint8 else resized.clamp(0, 255)


def apply_view(images: torch.Tensor, view: str) -> torch.Tensor:
    """Images (n, height, width, 3) as a view wants them: `hflip` mirrors left and right, others change nothing here."""
    return images.flip(2) if view == HFLIP else images
