"""Listing face crops by frame number, and images without a time axis by name."""

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from abaw.core.names import MAX_FRAMES, is_junk
from abaw.media.images import SUFFIXES

SECOND = (".bmp", ".webp")  # other suffixes take precedence if two images have the same number


@dataclass(frozen=True)
class Crops:
    """The face crops of one video.

    Attributes:
        folder: the folder with the crops.
        numbers: (crops,) int64 frame numbers from 1, ascending.
        names: file name of each.
        digest: sha256 over numbers (or names, for images without numbers) and file sizes; it changes with the crops.
        times: sha256 over the times at which each crop was last changed, by its content and by the system: the second
            one, which no program can set, changes when a crop is replaced by one of equal size and time.
        ignored: other names in the folder: not `<number>.jpg`, a number above `MAX_FRAMES`, or a duplicate; junk of
            other programs is left out.
        fault: why the crops cannot be matched with labels and sound: one has the number 0, so all may be shifted by a
            frame. `FrameSource.clock` raises it.
    """

    folder: Path
    numbers: NDArray[np.int64]
    names: tuple[str, ...]
    digest: str
    times: str
    ignored: tuple[str, ...]
    fault: str = ""


def list_crops(folder: Path, is_from_0: bool = False, prefix: str = "") -> Crops:
    """List the files `<frame number>.jpg` of a folder, with any of the `SUFFIXES` and any number of digits.

    Args:
        is_from_0: frames may also be numbered from 0; then 1 is added to all numbers if there is a 0.
        prefix: names may begin with it, and count from 0 then: `frame-0.jpg`.
    """
    by_number, ignored = _find_crops(folder, prefix)
    if is_from_0 and 0 in by_number:
        by_number = {number + 1: name for number, name in by_number.items()}
    fault, zero = "", by_number.pop(0, "")
    if zero:
        fault = (
            f"{folder / zero} has the frame number 0; frames are numbered from 1. "
            "Correct the numbers of all images in the folder."
        )
    numbers = np.array(sorted(by_number), dtype=np.int64)
    names = tuple(by_number[number] for number in numbers.tolist())
    with _status_in(folder) as status_of:
        status = np.array([status_of(name) for name in names], dtype=np.int64).reshape(-1, 3)
    sizes, times = status[:, 0].copy(), hashlib.sha256(status[:, 1:].tobytes()).hexdigest()
    # the fault counts, or features from before it would be taken for those of these crops
    digest = hashlib.sha256(numbers.tobytes() + sizes.tobytes() + os.fsencode(fault)).hexdigest()
    return Crops(folder, numbers, names, digest, times, tuple(ignored), fault)


def describe_no_crops(crops: Crops) -> str:
    """A sentence about a folder without crops and what it contains instead."""
    if nested := first_folder(crops):
        return f"{crops.folder} has folders instead of crops, such as {nested}. Move them up one level."
    content = f"it holds {crops.ignored[0]}, for example" if crops.ignored else "it is empty"
    return f"{crops.folder} has no files named <frame number>.jpg, such as 00001.jpg; {content}."


def first_folder(crops: Crops) -> str:
    """Name of the first folder inside a folder of crops, such as that of another video; empty without one."""
    return next((name for name in crops.ignored if (crops.folder / name).is_dir()), "")


def count_crops(folder: Path, is_from_0: bool = False, prefix: str = "") -> int:
    """Number of crops that `list_crops` finds; takes a third of the time, over a network far less."""
    by_number = _find_crops(folder, prefix)[0]
    return len(by_number) - (0 in by_number and not is_from_0)


def _find_crops(folder: Path, prefix: str) -> tuple[dict[int, str], list[str]]:
    """Names of crops by frame number, including 0, and names that are ignored; files are not opened."""
    by_number: dict[int, str] = {}
    ignored = []
    for name in sorted(os.listdir(folder)):  # noqa: PTH208  creating millions of Paths takes as long as everything else
        stem, _, suffix = name.rpartition(".")
        has_prefix = bool(prefix) and stem.startswith(prefix)
        stem = stem.removeprefix(prefix)
        is_number = stem.isascii() and stem.isdigit() and f".{suffix.lower()}" in SUFFIXES
        number = int(stem) + has_prefix if is_number else -1
        rival = by_number.get(number, "")
        if 0 <= number <= MAX_FRAMES and (
            not rival or (rival.lower().endswith(SECOND) and not name.lower().endswith(SECOND))
        ):
            by_number[number] = name
            ignored += [rival] if rival else []
        elif not is_junk(name):
            ignored.append(name)
    return by_number, ignored


@contextmanager
def _status_in(folder: Path) -> Iterator[Callable[[str], tuple[int, int, int]]]:
    """A function from the name of a file in a folder to its size in bytes and its times, see `_status_of`."""
    if os.stat in os.supports_dir_fd:  # saves walking the path of the folder for each file
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            yield lambda name: _status_of(lambda: os.stat(name, dir_fd=descriptor))
        finally:
            os.close(descriptor)
    else:
        yield lambda name: _status_of((folder / name).stat)


def list_stills(folder: Path) -> Crops:
    """List images without a time axis: any names, numbered from 1 in natural order (2 before 10)."""
    with os.scandir(folder) as entries:
        ordered = sorted(entries, key=lambda entry: natural_order(entry.name))
    images = [entry for entry in ordered if _is_still(entry)]
    ignored = tuple(entry.name for entry in ordered if not _is_still(entry) and not is_junk(entry.name))
    return _crops_of_stills(
        folder, [entry.name for entry in images], [_status_of(entry.stat) for entry in images], ignored
    )


def list_some_stills(folder: Path, names: Sequence[str]) -> Crops:
    """Like `list_stills` for some images of a folder, which may have many others.

    Args:
        names: of files that are there, in natural order.
    """
    with _status_in(folder) as status_of:
        return _crops_of_stills(folder, names, [status_of(name) for name in names], ())


def _crops_of_stills(
    folder: Path, names: Sequence[str], status: Sequence[tuple[int, int, int]], ignored: tuple[str, ...]
) -> Crops:
    listing = "".join(f"{name}\0{size}\0" for name, (size, *_) in zip(names, status, strict=True))
    times = hashlib.sha256(np.array(status, dtype=np.int64).reshape(-1, 3)[:, 1:].tobytes()).hexdigest()
    digest = hashlib.sha256(listing.encode(errors="surrogateescape")).hexdigest()
    return Crops(folder, np.arange(1, len(names) + 1, dtype=np.int64), tuple(names), digest, times, ignored)


def count_stills(folder: Path) -> int:
    """Number of images that `list_stills` finds."""
    with os.scandir(folder) as entries:
        return sum(map(_is_still, entries))


def has_stills(folder: Path) -> bool:
    """True if `list_stills` would find an image; stops at the first one."""
    with os.scandir(folder) as entries:
        return any(map(_is_still, entries))


def _is_still(entry: os.DirEntry) -> bool:
    is_image = os.path.splitext(entry.name)[1].lower() in SUFFIXES
    return is_image and not is_junk(entry.name) and not entry.is_dir()


def natural_order(name: str) -> tuple[list[tuple[int, str]], str]:
    """Sort key for names that compares digits as numbers; equal keys are ordered by the name itself."""
    parts = re.split("([0-9]+)", name.casefold())
    # text and digits alternate, so that numbers are never compared with text
    return [(int(part), "") if i % 2 else (0, part) for i, part in enumerate(parts)], name


def _status_of(stat: Callable[[], os.stat_result]) -> tuple[int, int, int]:
    """Size in bytes, and the times of the last change of the content and of the file in ns."""
    try:
        status = stat()
        return status.st_size, status.st_mtime_ns, status.st_ctime_ns
    except OSError:  # a broken link: reading will report this frame
        return 0, 0, 0
