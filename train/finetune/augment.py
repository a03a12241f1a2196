"""Augmentations of the published systems, on uint8 images in the memory of their device.

Images are (n, 3, height, width) uint8 RGB; those of one clip follow each other. What is random is drawn from torch's
generator of the CPU, so that a resumed training draws the same.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torchvision.transforms.v2 import RandAugment
from torchvision.transforms.v2 import functional as pixels

from abaw.train.finetune.colours import (
    adjust_brightness,
    adjust_contrast,
    adjust_saturation,
    equalise_range,
    shift_hue,
)
from abaw.train.finetune.resampling import resize_exactly

EMMA_MARGIN, COTEX_MARGIN = 1.04, 1.02  # images are resized to so much more than the input, and cropped
JITTER_SHARE = 0.2  # of EMMA's images
CUTOUT_COLOUR = (125, 123, 114)
CUTOUT_SHARE, CUTOUT_SIDE = 0.5, 0.5  # of the frames of a clip; largest side, of the width of a frame
BLUR_KERNEL, BLUR_SIGMAS = 3, (0.1, 2.0)

# images, number of the clip of each (n,) int64 ascending, side of the input of the network, interpolation
Augment = Callable[[Tensor, Tensor, int, str], Tensor]


def augment_emma(images: Tensor, clips: Tensor, size: int, interpolation: str) -> Tensor:
    """As EMMA: resized to 1.04 of the input; one of five with other colours; cropped anywhere; half of them mirrored."""
    images = resize(images, int(size * EMMA_MARGIN), interpolation)
    chosen = torch.rand(len(images)) < JITTER_SHARE
    if chosen.any():
        index = chosen.to(images.device)
        images[index] = jitter(images[index], 0.4, hue=0.1)
    return _mirror_half(_crop_anywhere(images, size))


def augment_cotex(images: Tensor, clips: Tensor, size: int, interpolation: str) -> Tensor:
    """As CoTEX: resized to 1.02 of the input; cropped anywhere; half of them mirrored."""
    return _mirror_half(_crop_anywhere(resize(images, int(size * COTEX_MARGIN), interpolation), size))


def augment_situ(images: Tensor, clips: Tensor, size: int, interpolation: str) -> Tensor:
    """As Situ on still images: half of them mirrored; blurred; other brightness, contrast and hue."""
    images = _mirror_half(resize(images, size, interpolation))
    sigmas = _uniform(len(images), *BLUR_SIGMAS)
    blurred = [
        pixels.gaussian_blur(image, [BLUR_KERNEL, BLUR_KERNEL], [float(sigma)] * 2)
        for image, sigma in zip(images, sigmas, strict=True)
    ]
    return jitter(torch.stack(blurred), 0.5, saturation=0.0, hue=0.5)


def augment_v_naw(images: Tensor, clips: Tensor, size: int, interpolation: str) -> Tensor:
    """As V-NAW: one operation for all frames of a clip, with one value; half of the frames have a patch cut out."""
    images = resize(images, size, interpolation).clone()
    for clip in clips.unique_consecutive():
        rows = (clips == clip).to(images.device)
        images[rows] = _change_clip(images[rows])
    chosen = torch.rand(len(images)) < CUTOUT_SHARE
    sides = torch.rand(len(images), dtype=torch.float64) * CUTOUT_SIDE
    centres = torch.rand(len(images), 2, dtype=torch.float64)
    for number in chosen.nonzero().flatten().tolist():
        x, y = (centres[number] * size).tolist()
        images[number] = cut_out(images[number], float(sides[number]) * size, x, y)
    return images


def augment_lightly(images: Tensor, clips: Tensor, size: int, interpolation: str) -> Tensor:
    """Resized to 1.04 of the input; cropped anywhere; half of the clips mirrored, each as a whole."""
    images = _crop_anywhere(resize(images, int(size * EMMA_MARGIN), interpolation), size)
    return _mirror(images, (torch.rand(int(clips.max()) + 1) < 0.5)[clips])


def augment_randomly(images: Tensor, clips: Tensor, size: int, interpolation: str) -> Tensor:
    """Resized; half of the clips mirrored; RandAugment (Cubuk et al., 2020), two operations of strength 9 for each clip."""
    images, change = resize(images, size, interpolation), RandAugment()
    images = _mirror(images, (torch.rand(int(clips.max()) + 1) < 0.5)[clips])
    changed = [change(images[(clips == clip).to(images.device)]) for clip in clips.unique_consecutive()]
    return torch.cat(changed)


AUGMENTS: Mapping[str, Augment] = {
    "light": augment_lightly,
    "randaugment": augment_randomly,
    "emma": augment_emma,
    "cotex": augment_cotex,
    "v-naw": augment_v_naw,
    "situ": augment_situ,
}


def resize(images: Tensor, side: int, interpolation: str) -> Tensor:
    """Images of `side` by `side` pixels."""
    return resize_exactly(images, (side, side), interpolation)


def _crop_anywhere(images: Tensor, size: int) -> Tensor:
    """A part of `size` by `size` pixels of each image, at a place of its own."""
    room = images.shape[-1] - size
    tops, lefts = torch.randint(room + 1, (2, len(images))).tolist()
    return torch.stack(
        [image[:, top : top + size, left : left + size] for image, top, left in zip(images, tops, lefts, strict=True)]
    )


def _mirror_half(images: Tensor) -> Tensor:
    """Each image mirrored left to right, or not, at equal chances."""
    return _mirror(images, torch.rand(len(images)) < 0.5)


def _mirror(images: Tensor, chosen: Tensor) -> Tensor:
    return torch.where(chosen.to(images.device).view(-1, 1, 1, 1), images.flip(-1), images)


def _uniform(n: int, low: float, high: float) -> Tensor:
    """(n,) float64 on the CPU."""
    return low + (high - low) * torch.rand(n, dtype=torch.float64)


def jitter(images: Tensor, strength: float, saturation: float | None = None, hue: float = 0.0) -> Tensor:
    """Other brightness, contrast, saturation and hue, in an order drawn for each image.

    Args:
        strength: factors are within 1 - strength and 1 + strength.
        saturation: the strength of its factors, where it differs.
        hue: largest shift.
    """
    changes: list[tuple[Callable[[Tensor, Tensor], Tensor], float, float]]
    changes = [(adjust_brightness, 1 - strength, 1 + strength), (adjust_contrast, 1 - strength, 1 + strength)]
    width = strength if saturation is None else saturation
    if width:
        changes.append((adjust_saturation, 1 - width, 1 + width))
    if hue:
        changes.append((shift_hue, -hue, hue))
    values = torch.stack([_uniform(len(images), low, high) for _, low, high in changes])
    orders = torch.rand(len(changes), len(images)).argsort(dim=0)
    for position in orders:  # what each image gets first, second and so on
        images = images.clone()
        for number, (change, _, _) in enumerate(changes):
            rows = position == number
            if rows.any():
                index = rows.to(images.device)
                images[index] = change(images[index], values[number, rows])
    return images


def _change_clip(images: Tensor) -> Tensor:
    """The frames of a clip after one of `CLIP_CHANGES`, drawn at equal chances, with one value for all of them."""
    change, low, high = CLIP_CHANGES[int(torch.randint(len(CLIP_CHANGES), ()))]
    return change(images, float(_uniform(1, low, high)))


def _of_all(change: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, float], Tensor]:
    return lambda images, value: change(images, torch.full((len(images),), value, dtype=torch.float64))


def _unchanged(images: Tensor, value: float) -> Tensor:
    return images


# V-NAW's list: an operation, and the lowest and highest of its values; two of the nine change nothing
CLIP_CHANGES: tuple[tuple[Callable[[Tensor, float], Tensor], float, float], ...] = (
    (lambda images, value: equalise_range(images), 0, 0),
    (_of_all(adjust_brightness), 0.6, 1.4),
    (_of_all(adjust_saturation), 0.6, 1.4),
    (_of_all(adjust_contrast), 0.6, 1.4),
    (lambda images, value: pixels.equalize(images), 0, 0),
    (_unchanged, 0, 0),
    (_unchanged, 0, 0),
    (lambda images, value: pixels.posterize(images, int(value)), 6, 8),
    (pixels.adjust_sharpness, 0.6, 1.4),
)


def cut_out(image: Tensor, side: float, x: float, y: float) -> Tensor:
    """A square of V-NAW's grey in an image (3, height, width), clipped at its borders.

    Args:
        side: in pixels.
        x, y: its centre, in pixels.
    """
    image = image.clone()
    height, width = image.shape[-2:]
    left, top = int(max(0, x - side / 2)), int(max(0, y - side / 2))
    right, bottom = int(min(width, left + side)), int(min(height, top + side))
    colour = torch.tensor(CUTOUT_COLOUR, dtype=torch.uint8, device=image.device).view(3, 1, 1)
    image[:, top : bottom + 1, left : right + 1] = colour
    return image
