"""The images that clips are made of: face cut-outs by class, and backgrounds."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageOps

from abaw.core.errors import DataError
from abaw.core.names import is_junk
from abaw.core.tasks import GROUP_EMOTIONS
from abaw.media.images import SUFFIXES, open_upright

LABELS = {label: number for number, label in enumerate(GROUP_EMOTIONS, 1)}  # as the label files of VGAF count them
VISIBLE_ALPHA = 128  # of 255: a pixel from here on counts as part of a face
SMOOTHING = 4  # times finer than the face is the ellipse drawn, for a soft edge


@dataclass(frozen=True)
class Material:
    """Files that clips are made of.

    Attributes:
        faces: cut-outs by label, sorted by name.
        backgrounds: sorted by path; empty if backgrounds are to be drawn.
    """

    faces: dict[str, tuple[Path, ...]]
    backgrounds: tuple[Path, ...]

    def digests(self) -> dict[str, str]:
        """sha256 over names and sizes of the files, of faces and of backgrounds: other images, other digests."""
        files = {"faces": [file for label in LABELS for file in self.faces[label]], "backgrounds": self.backgrounds}
        return {name: _digest(paths) for name, paths in files.items()}


def _digest(files: Iterable[Path]) -> str:
    lines = [f"{file.parent.name}/{file.name} {file.stat().st_size}\n" for file in files]
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def find_material(faces: Path, backgrounds: Path | None, only: str = "") -> Material:
    """List face cut-outs `<faces>/<Label>/*.png` (or .jpg) and, in any depth, the background images.

    Args:
        only: the class that needs cut-outs; empty for all.

    Raises:
        DataError: a folder or a class is missing or empty, or a face folder has an unknown name.
    """
    names = ", ".join(LABELS)
    if not faces.is_dir():
        raise DataError(f"No folder of faces {faces}. Name one that holds cut-outs in the folders {names}.")
    folders = sorted(path.name for path in faces.iterdir() if path.is_dir() and not path.name.startswith("."))
    unknown = [name for name in folders if name not in LABELS]
    if unknown:
        raise DataError(f"{faces} holds a folder {unknown[0]!r}, which is not a class. Face folders are named {names}.")
    cutouts = {label: tuple(_images(faces / label, "*")) for label in LABELS}
    for label, files in cutouts.items():
        if not files and only in ("", label):
            raise DataError(f"No faces of class {label}: put cut-outs (.png or .jpg) into {faces / label}.")
    if backgrounds is None:
        return Material(cutouts, ())
    scenes = tuple(_images(backgrounds, "**/*"))
    if not scenes:
        raise DataError(f"No images in {backgrounds}. Name a folder of background images, or leave out --backgrounds.")
    return Material(cutouts, scenes)


def _images(folder: Path, pattern: str) -> list[Path]:
    images = (path for path in folder.glob(pattern) if path.suffix.lower() in SUFFIXES and path.is_file())
    return sorted(path for path in images if not any(map(is_junk, path.relative_to(folder).parts)))


def read_cutout(file: Path, longest_px: int) -> Image.Image:
    """Read a face cut-out.

    Transparent borders are cut away, so that sizes are those of the face. An image without transparency gets an
    ellipse that touches its four sides as its outline.

    Args:
        file: image to read.
        longest_px: longer side that is kept at most; a larger image is averaged down to it.

    Returns:
        Image of mode RGBa: colours multiplied by alpha.

    Raises:
        DataError: it cannot be read, or nothing of it is visible.
    """
    image = open_upright(file)
    has_outline = image.has_transparency_data
    image = image.convert("RGBA" if has_outline else "RGB")
    box = image.getchannel("A").getbbox() if has_outline else (0, 0, *image.size)
    if box is None or min(box[2] - box[0], box[3] - box[1]) < 2:
        raise DataError(f"{file} shows no face: it is transparent everywhere, or too small. Replace or delete it.")
    image = image.crop(box)
    size = size_within(image.size, min(longest_px, max(image.size)))
    if has_outline:
        return image.convert("RGBa").resize(size, Image.Resampling.BOX)
    image = image.resize(size, Image.Resampling.BOX)
    image.putalpha(_ellipse(size))
    return image.convert("RGBa")


def size_within(size: tuple[int, int], longest_px: int) -> tuple[int, int]:
    """Width and height in the same proportion, the longer one being `longest_px`."""
    return (
        max(1, round(size[0] * longest_px / max(size))),
        max(1, round(size[1] * longest_px / max(size))),
    )


def _ellipse(size: tuple[int, int]) -> Image.Image:
    fine = Image.new("L", (size[0] * SMOOTHING, size[1] * SMOOTHING))
    ImageDraw.Draw(fine).ellipse((0, 0, fine.width - 1, fine.height - 1), fill=255)
    return fine.reduce(SMOOTHING)


def read_background(file: Path, side_px: int, is_stretched: bool = False) -> NDArray[np.uint8]:
    """Read an image as (side, side, 3) uint8 RGB: its middle square, resized, or all of it, stretched.

    Raises:
        DataError: it cannot be read.
    """
    image = open_upright(file).convert("RGB")
    if is_stretched:
        return np.asarray(image.resize((side_px, side_px), Image.Resampling.BILINEAR))
    return np.asarray(ImageOps.fit(image, (side_px, side_px), Image.Resampling.BILINEAR))


def draw_background(rng: np.random.Generator, side_px: int) -> NDArray[np.uint8]:
    """Draw a (side, side, 3) uint8 RGB gradient from one colour to another, in any direction."""
    first, second = rng.uniform(30, 220, (2, 3)).astype(np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    across = np.linspace(-0.5, 0.5, side_px)
    share = (across * np.cos(angle) + across[:, None] * np.sin(angle)) / np.sqrt(2) + 0.5
    return np.rint(first + (second - first) * share.astype(np.float32)[:, :, None]).astype(np.uint8)
