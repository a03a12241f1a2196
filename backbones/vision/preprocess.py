"""Preprocessing of images on the device: from uint8 crops to normalised model input in one step."""

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F

from abaw.backbones.spec import ImageInput
from abaw.backbones.vision.views import HFLIP
from abaw.core.devices import one_thread


def prepare_images(images: torch.Tensor, image: ImageInput, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Resize (antialiased) and normalise a batch on its device.

    Args:
        images: (n, height, width, 3) uint8 RGB.
        image: the input of the network.
        dtype: of the result.

    Returns:
        (n, 3, height, width), in channels-last memory.
    """
    if images.device.type == "mps":  # not all of these operators are there
        return prepare_images(images.cpu(), image, dtype).to(images.device)
    height, width = image.height_width
    with one_thread(images.device.type == "cpu"):  # decoding keeps the other cores busy
        # the permuted view is channels-last already, so nothing is copied here
        pixels = images.permute(0, 3, 1, 2)
        resized = _resized_sides(pixels.shape[-2:], image)
        if pixels.shape[-2:] != resized:
            pixels = _resize(pixels, resized, image)
        if resized != (height, width):
            pixels = _middle(pixels, image)
        # a processor multiplies whole rows of interleaved pixels fastest
        rows = pixels.permute(0, 2, 3, 1).reshape(len(images), height, -1).float()
        shift, scale = _normalisation(image, images.device)
        scaled = torch.addcmul(shift, rows, scale, out=rows)
        return scaled.view(len(images), height, width, 3).permute(0, 3, 1, 2).to(dtype)


@lru_cache(maxsize=64)
def _normalisation(image: ImageInput, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """What a row of interleaved pixels is shifted by and multiplied with, (3 * width,) each.

    They stay on the device: bringing them there for each batch would wait for the batch before.
    """
    width = image.height_width[1]
    with torch.inference_mode(False):  # networks that are trained use them, too
        std = torch.tensor(image.std) * 255
        shift = (-torch.tensor(image.mean) * 255 / std).repeat(width)
        return shift.to(device), (1 / std).repeat(width).to(device)


@lru_cache(maxsize=64)
def _mean_colour(image: ImageInput, device: torch.device) -> torch.Tensor:
    """(1, 3, 1, 1) mean colour in whole grey levels, which stays on the device."""
    with torch.inference_mode(False):
        return torch.tensor([round(255 * mean) for mean in image.mean], dtype=torch.uint8).view(1, 3, 1, 1).to(device)


def _resized_sides(before: Sequence[int], image: ImageInput) -> tuple[int, int]:
    """Height and width that a crop is resized to before its middle is cut out, rounded as in timm and torchvision."""
    height, width = image.height_width
    if image.crop == "resize":
        return height, width
    sides = (math.floor(height / image.crop_pct), math.floor(width / image.crop_pct))
    if image.crop == "squash":
        return sides
    if image.crop == "center" and sides[0] == sides[1]:
        short, long = sorted(before)
        other = int(sides[0] * long / short)
        return (sides[0], other) if before[0] <= before[1] else (other, sides[0])
    choose = max if image.crop == "border" else min
    ratio = choose(before[0] / sides[0], before[1] / sides[1])
    return round(before[0] / ratio), round(before[1] / ratio)


def _resize(pixels: torch.Tensor, sides: tuple[int, int], image: ImageInput) -> torch.Tensor:
    # torch has a fast path for 8-bit images on the CPU only; it rounds to whole grey levels like Pillow.
    pixels = pixels if pixels.device.type == "cpu" else pixels.float()
    resized = F.interpolate(pixels, sides, mode=image.interpolation, antialias=True, align_corners=False)
    return resized if pixels.dtype == torch.uint8 else resized.clamp(0, 255)


def _middle(pixels: torch.Tensor, image: ImageInput) -> torch.Tensor:
    """The middle of images (n, 3, height, width) at the size of the input, padded with the mean colour."""
    size = image.height_width
    missing = [max(side - before, 0) for side, before in zip(size, pixels.shape[-2:], strict=True)]
    if any(missing):
        height, width = (side + more for side, more in zip(pixels.shape[-2:], missing, strict=True))
        colour = _mean_colour(image, pixels.device).to(pixels.dtype)
        framed = colour.expand(len(pixels), 3, height, width).clone()
        top, left = (more // 2 for more in missing)
        framed[:, :, top : top + pixels.shape[-2], left : left + pixels.shape[-1]] = pixels
        pixels = framed
    top, left = (round((before - side) / 2) for before, side in zip(pixels.shape[-2:], size, strict=True))
    return pixels[:, :, top : top + size[0], left : left + size[1]]


def apply_view(images: torch.Tensor, view: str) -> torch.Tensor:
    """Images (n, height, width, 3) in a view: `hflip` mirrors left and right, others change nothing here."""
    return images.flip(2) if view == HFLIP else images
