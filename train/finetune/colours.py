"""Operations on the colours of uint8 images that give the same bytes as Pillow, for whole batches on any device.

Images are (n, 3, height, width) uint8 RGB. Factors and shifts are (n,) float, one for each image.
"""

import torch
from torch import Tensor

GREY = (19_595, 38_470, 7_471)  # weights of R, G and B in a grey level, in 1/65,536 (ITU-R 601)


def adjust_brightness(images: Tensor, factors: Tensor) -> Tensor:
    """Blend with black; a factor of 1 changes nothing."""
    return _blend(torch.zeros_like(images), images, factors)


def adjust_saturation(images: Tensor, factors: Tensor) -> Tensor:
    """Blend with the grey version."""
    return _blend(_grey(images).expand_as(images), images, factors)


def adjust_contrast(images: Tensor, factors: Tensor) -> Tensor:
    """Blend with the mean grey level, rounded."""
    means = (_grey(images).double().mean(dim=(1, 2, 3), keepdim=True) + 0.5).floor()
    return _blend(means.expand(images.shape), images, factors)


def shift_hue(images: Tensor, shifts: Tensor) -> Tensor:
    """Turn the hue by a share of the circle, from -.5 to .5, in whole 1/256 of 8-bit HSV."""
    red, green, blue = images.unbind(dim=1)
    value = images.amax(dim=1)
    spread = (value - images.amin(dim=1)).float()
    is_grey = spread == 0
    divisor = spread.masked_fill(is_grey, 1.0)
    to_red, to_green, to_blue = ((value - channel).float() / divisor for channel in (red, green, blue))
    sextant = torch.where(
        red == value,
        (to_blue - to_green).double(),
        torch.where(
            green == value, 2.0 + to_red.double() - to_blue.double(), 4.0 + to_green.double() - to_red.double()
        ),
    ).float()
    turn = (sextant.double() / 6.0 + 1.0).fmod(1.0).float()
    hue = (turn.double() * 255.0).int().clamp(0, 255).masked_fill(is_grey, 0)
    share = spread / value.float().masked_fill(is_grey, 1.0)
    saturation = (share.double() * 255.0).int().clamp(0, 255).masked_fill(is_grey, 0)
    turned = (hue + (shifts.double() * 255.0).int().view(-1, 1, 1)) % 256
    return _from_hsv(turned, saturation, value)


def equalise_range(images: Tensor) -> Tensor:
    """Stretch each channel, so that its darkest value becomes 0 and its brightest 255 (autocontrast)."""
    low, high = (images.flatten(2).aminmax(dim=2)[i].double()[..., None, None] for i in range(2))
    scale = 255.0 / (high - low).masked_fill(high <= low, 1.0)
    stretched = (images.double() * scale - low * scale).trunc().clamp(0, 255).to(torch.uint8)
    return torch.where(high <= low, images, stretched)


def _grey(images: Tensor) -> Tensor:
    """(n, 1, height, width) uint8."""
    weights = torch.tensor(GREY, dtype=torch.int32, device=images.device).view(1, 3, 1, 1)
    return (((images.int() * weights).sum(dim=1, keepdim=True) + 0x8000) >> 16).to(torch.uint8)


def _blend(first: Tensor, second: Tensor, factors: Tensor) -> Tensor:
    """`first + factor * (second - first)`, cut off to whole levels."""
    start = first.float()
    blended = start + factors.float().to(second.device).view(-1, 1, 1, 1) * (second.float() - start)
    return blended.clamp(0, 255).to(torch.uint8)


def _from_hsv(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """RGB images of 8-bit HSV, (n, height, width) each."""
    position = hue.float().double() * 6.0 / 255.0
    sextant = position.floor()
    part = (position - sextant).float().double()
    share, level = (saturation.float().double() / 255.0).float().double(), value.double()
    low, falling, rising = (
        (level * (1.0 - share * amount) + 0.5).floor().clamp(0, 255).to(torch.uint8)
        for amount in (torch.ones_like(part), part, 1.0 - part)
    )
    value = value.to(torch.uint8)
    choices = torch.stack(
        [
            torch.stack(channels, dim=1)
            for channels in (
                (value, rising, low),
                (falling, value, low),
                (low, value, rising),
                (low, falling, value),
                (rising, low, value),
                (value, low, falling),
            )
        ]
    )
    index = (sextant.long() % 6)[None, :, None].expand(1, -1, 3, -1, -1)
    rgb = choices.gather(0, index)[0]
    return torch.where((saturation == 0)[:, None], value[:, None].expand_as(rgb), rgb)
