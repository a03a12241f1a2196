"""Face crops: listing them by frame number."""

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from abaw.core.names import MAX_FRAMES, is_junk
from abaw.media.images import SUFFIXES

SECOND = (".bmp", ".webp")  # of two images of one number the other one counts


@dataclass(frozen=True)
class Crops:
    """The face crops of one video.

    Attributes:
        folder: where they lie.
        numbers: (crops,) int64 frame numbers from 1, ascending.
        names: file name of each.
        digest: sha256 over numbers (or names, where they give none) and file sizes; another digest means other crops.
        ignored: names in the folder that are no crop: not `<number>.jpg`, a number above `MAX_FRAMES`, or one seen
            before; not those that other programs leave behind.
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
    """List `<frame number>.jpg` of a folder, or with another of the `SUFFIXES`; any number of digits."""
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
    if nested := first_folder(crops):
        return f"{crops.folder} has no crops but folders, such as {nested}. Move them up one level."
    found = f"it holds {crops.ignored[0]}, for example" if crops.ignored else "it is empty"
    return f"{crops.folder} has no files named <frame number>.jpg, such as 00001.jpg; {found}."


def first_folder(crops: Crops) -> str:
    """Name of the first folder among the crops of a video, as those of other videos; empty if there is none."""
    return next((name for name in crops.ignored if (crops.folder / name).is_dir()), "")


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
        other = found.get(number, "")
        if 0 <= number <= MAX_FRAMES and (
            not other or (other.lower().endswith(SECOND) and not name.lower().endswith(SECOND))
        ):
            found[number] = name
            ignored += [other] if other else []
        elif not is_junk(name):
            ignored.append(name)
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
    ignored = tuple(entry.name for entry in found if not _is_still(entry) and not is_junk(entry.name))
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
    return is_image and not is_junk(entry.name) and not entry.is_dir()


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
