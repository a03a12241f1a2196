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
from abaw.names import MAX_FRAMES

SUFFIXES = (".jpg", ".jpeg", ".png")
# What Pillow may decode, whatever a file is called: of its other formats one runs a program, Ghostscript.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
MAX_PIXELS = 250_000_000  # the largest cameras have 200 million; a small file may claim to hold any number
JPEG, SCAN = b"\xff\xd8", b"\xff\xda"  # the first bytes of a JPEG, and of each scan in it
MAX_SCANS = 100  # a progressive JPEG has about ten; each one more is another pass over all pixels

Image.MAX_IMAGE_PIXELS = MAX_PIXELS  # Pillow's own limit warns from 89 million on and refuses 179 million


@dataclass(frozen=True)
class Crops:
    """The face crops of one video.

    Attributes:
        folder: where they lie.
        numbers: (crops,) int64 frame numbers from 1, ascending.
        names: file name of each.
        digest: sha256 over numbers (or names, where they give none) and file sizes; another digest means other crops.
        ignored: names in the folder that are no crop: not `<number>.jpg`, a number above `MAX_FRAMES`, or one seen
            before.
        fault: a sentence where they cannot be joined with labels and sound: one has the number 0, so that all may be
            shifted by a frame; `Dataset.clock` raises it.
    """

    folder: Path
    numbers: NDArray[np.int64]
    names: tuple[str, ...]
    digest: str
    ignored: tuple[str, ...]
    fault: str = ""


def list_crops(folder: Path) -> Crops:
    """List `<frame number>.jpg|.jpeg|.png` of a folder; any number of digits."""
    found, ignored = _find_crops(folder)
    fault, zero = "", found.pop(0, "")
    if zero:
        fault = (
            f"{folder / zero} has the frame number 0; frames are numbered from 1. "
            "Correct the numbers of all images in the folder."
        )
    numbers = np.array(sorted(found), dtype=np.int64)
    names = tuple(found[number] for number in numbers.tolist())
    with _sizes_in(folder) as size_of:
        sizes = np.array([size_of(name) for name in names], dtype=np.int64)
    # with the fault, or features made before it came would pass for those of these crops
    digest = hashlib.sha256(numbers.tobytes() + sizes.tobytes() + os.fsencode(fault)).hexdigest()
    return Crops(folder, numbers, names, digest, tuple(ignored), fault)


def describe_no_crops(crops: Crops) -> str:
    """What to say of a folder in which `list_crops` found nothing: what is there instead."""
    others = [name for name in crops.ignored if not name.startswith(".")]  # hidden ones are of other programs
    if nested := first_folder(crops):
        return f"{crops.folder} has no crops but folders, such as {nested}. Move them up one level."
    found = f"it holds {others[0]}, for example" if others else "it is empty"
    return f"{crops.folder} has no files named <frame number>.jpg, such as 00001.jpg; {found}."


def first_folder(crops: Crops) -> str:
    """Name of the first folder among the crops of a video, as those of other videos; empty if there is none."""
    visible = (name for name in crops.ignored if not name.startswith("."))
    return next((name for name in visible if (crops.folder / name).is_dir()), "")


def count_crops(folder: Path) -> int:
    """How many crops `list_crops` finds; takes a third of the time, and over a network far less."""
    found = _find_crops(folder)[0]
    return len(found) - (0 in found)


def _find_crops(folder: Path) -> tuple[dict[int, str], list[str]]:
    """Names of crops by frame number, 0 included, and those that are ignored; the files are not looked at."""
    found: dict[int, str] = {}
    ignored = []
    for name in sorted(os.listdir(folder)):  # noqa: PTH208  a Path for each of millions takes as long as all the rest
        stem, _, suffix = name.rpartition(".")
        is_number = stem.isascii() and stem.isdigit() and f".{suffix.lower()}" in SUFFIXES
        number = int(stem) if is_number else -1
        if number in found or not 0 <= number <= MAX_FRAMES:
            ignored.append(name)
        else:
            found[number] = name
    return found, ignored


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


def count_stills(folder: Path) -> int:
    """How many images `list_stills` finds."""
    with os.scandir(folder) as entries:
        return sum(map(_is_still, entries))


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
        if content.startswith(JPEG) and content.count(SCAN) > MAX_SCANS:
            raise DataError(
                f"{file} is a JPEG of more than {MAX_SCANS} scans, which takes too long to decode. Save it anew."
            )
        height, width, *_ = simplejpeg.decode_jpeg_header(content)
        check_size(width, height, file)
        return simplejpeg.decode_jpeg(content, colorspace="RGB", strict=True)
    except ValueError as error:  # not a JPEG of the usual kinds: Pillow knows more of them, and says what is wrong
        if "orrupt" in str(error) or "remature" in str(error):  # Pillow would fill what is missing with grey
            raise DataError(f"{file} is damaged ({error}). Replace or delete it.") from error
        return _decode_with_pillow(content, file)


def _decode_with_pillow(content: bytes, file: Path | str) -> NDArray[np.uint8]:
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            check_size(*image.size, file)
            return np.asarray(image.convert("RGB"))
    except DataError:
        raise
    except Image.DecompressionBombError as error:  # twice the limit, which Pillow refuses before it tells the size
        raise DataError(f"{file} has more than {MAX_PIXELS:,} pixels. Shrink or delete it.") from error
    except UnidentifiedImageError as error:
        raise DataError(f"{file} is not an image. Replace or delete it.") from error
    except Exception as error:  # damaged files raise many types in Pillow
        raise DataError(f"{file} is damaged ({error}). Replace or delete it.") from error


def check_size(width: int, height: int, file: Path | str) -> None:
    """Raises a DataError if an image says that it has more than `MAX_PIXELS`."""
    if width * height > MAX_PIXELS:
        raise DataError(
            f"{file} has {width} x {height} pixels: more than {MAX_PIXELS:,} are not decoded. Shrink or delete it."
        )
