"""Face crops: finding them by frame number, and decoding them."""

import hashlib
import io
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from abaw.errors import DataError

SUFFIXES = (".jpg", ".jpeg", ".png")
MOST_FRAMES = 10_000_000  # of a video (92 hours at 30 fps); the arrays go with the highest number


@dataclass(frozen=True)
class Crops:
    """The face crops of one video.

    Attributes:
        folder: where they lie.
        numbers: (crops,) int64 frame numbers from 1, ascending.
        names: file name of each.
        digest: sha256 over numbers (or names, where they give none) and file sizes; another digest means other crops.
        ignored: names in the folder that are no crop: not `<number>.jpg`, number 0 or above `MOST_FRAMES`, or a number
            seen before.
    """

    folder: Path
    numbers: NDArray[np.int64]
    names: tuple[str, ...]
    digest: str
    ignored: tuple[str, ...]


def list_crops(folder: Path) -> Crops:
    """List `<frame number>.jpg|.jpeg|.png` of a folder; any number of digits."""
    found: dict[int, tuple[str, int]] = {}
    ignored = []
    with _sizes_in(folder) as size_of:
        for name in sorted(os.listdir(folder)):  # noqa: PTH208  a Path for each of millions takes as long as all the rest
            stem, _, suffix = name.rpartition(".")
            is_number = stem.isascii() and stem.isdigit() and f".{suffix.lower()}" in SUFFIXES
            number = int(stem) if is_number else 0
            if number in found or not 0 < number <= MOST_FRAMES:
                ignored.append(name)
            else:
                found[number] = (name, size_of(name))
    numbers = np.array(sorted(found), dtype=np.int64)
    sizes = np.array([found[number][1] for number in numbers.tolist()], dtype=np.int64)
    names = tuple(found[number][0] for number in numbers.tolist())
    digest = hashlib.sha256(numbers.tobytes() + sizes.tobytes()).hexdigest()
    return Crops(folder, numbers, names, digest, tuple(ignored))


@contextmanager
def _sizes_in(folder: Path) -> Iterator[Callable[[str], int]]:
    """A function that gives the sizes in bytes of the files in a folder, by name."""
    if os.stat in os.supports_dir_fd:  # the system need not walk the folder's path for each file
        place = os.open(folder, os.O_RDONLY)
        try:
            yield lambda name: _size_of(lambda: os.stat(name, dir_fd=place))
        finally:
            os.close(place)
    else:
        yield lambda name: _size_of((folder / name).stat)


def list_stills(folder: Path) -> Crops:
    """List the images of a folder that have no time axis: any names, numbered from 1 in natural order (2 before 10)."""
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: natural_order(entry.name))
    images = [entry for entry in found if _is_still(entry)]
    numbers = np.arange(1, len(images) + 1, dtype=np.int64)
    listing = "".join(f"{entry.name}\0{_size_of(entry.stat)}\0" for entry in images)
    digest = hashlib.sha256(listing.encode(errors="surrogateescape")).hexdigest()
    ignored = tuple(entry.name for entry in found if not _is_still(entry))
    return Crops(folder, numbers, tuple(entry.name for entry in images), digest, ignored)


def has_stills(folder: Path) -> bool:
    """True if `list_stills` finds an image; stops at the first."""
    with os.scandir(folder) as entries:
        return any(map(_is_still, entries))


def _is_still(entry: os.DirEntry) -> bool:
    is_image = os.path.splitext(entry.name)[1].lower() in SUFFIXES
    return is_image and not entry.name.startswith(".") and not entry.is_dir()


def natural_order(name: str) -> tuple[list[tuple[int, str]], str]:
    """A key to sort names by, in which digits count as numbers; the name itself decides between equals."""
    parts = re.split("([0-9]+)", name.casefold())
    # text and digits alternate, so that a number is never compared with text
    return [(int(part), "") if i % 2 else (0, part) for i, part in enumerate(parts)], name


def _size_of(stat: Callable[[], os.stat_result]) -> int:
    try:
        return stat().st_size
    except OSError:  # a link to nowhere: reading it will cost this one frame
        return 0


def read_image(file: Path | str) -> NDArray[np.uint8]:
    """Decode an image file to (height, width, 3) uint8 RGB.

    Raises:
        DataError: it cannot be read, is cut off, or is no image.
    """
    try:
        with open(file, "rb") as stream:
            content = stream.read()
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror}).") from error
    try:
        return simplejpeg.decode_jpeg(content, colorspace="RGB", strict=True)
    except ValueError as error:  # not a JPEG of the usual kinds: Pillow knows more of them, and says what is wrong
        if "orrupt" in str(error) or "remature" in str(error):  # Pillow would fill what is missing with grey
            raise DataError(f"{file} is damaged ({error}). Replace or delete it.") from error
        return _decode_with_pillow(content, file)


def _decode_with_pillow(content: bytes, file: Path | str) -> NDArray[np.uint8]:
    try:
        with Image.open(io.BytesIO(content)) as image:
            return np.asarray(image.convert("RGB"))
    except UnidentifiedImageError as error:
        raise DataError(f"{file} is not an image. Replace or delete it.") from error
    except Exception as error:  # damaged files raise many types in Pillow
        raise DataError(f"{file} is damaged ({error}). Replace or delete it.") from error
