"""The clock of a video file: frame i is the i-th picture that its decoder returns, at the time of that picture.

A container's list of pictures is not what is shown: it includes hidden pictures (VP8), pictures before the start of an
edit list, damaged ones, and those that depend on pictures that were cut off. So each file is decoded once, only for
the times of its pictures, and the result is cached; see `abaw.media.clock_cache`.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from abaw.core.errors import DataError
from abaw.media import clock_cache
from abaw.media.decoder import open_media
from abaw.media.picture_times import Decoding, decode_times, find_lost, how_it_ends, in_order

SAME_RATE = 1e-4  # relative difference of equal rates, apart from the rounding of times
MOST_RECENT, MOST_PICTURES = 1024, 2**22  # a picture takes eight bytes


@dataclass(frozen=True)
class Stamps:
    """When the pictures of a video file are shown, on the clock of the file.

    Attributes:
        shown: (pictures,) int64 ascending, in units of `base`; picture i is frame i + 1.
        base: seconds per unit.
        stated: duration that the file states, in units of `base`; 0 if unknown.
        nominal: frame rate that the file states; 0 if unknown.
        n_stated: number of pictures that the file states; 0 if unknown.
        n_broken: packets that could not be decoded.
        n_lost: pictures that are missing between others, as far as is known.
        lost_after: number of the frame after which the first lost picture is missing.
        ends_early: how the file ends too early, as a sentence without its subject; empty if it does not.
        jumps: (k, 2) int64, where the clock of the file jumps ahead: its time after the jump, and what is subtracted from
            all later times in `shown`.
    """

    shown: NDArray[np.int64]
    base: Fraction
    stated: int = 0
    nominal: Fraction = Fraction(0)
    n_stated: int = 0
    n_broken: int = 0
    n_lost: int = 0
    lost_after: int = 0
    ends_early: str = ""
    jumps: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 2), dtype=np.int64))

    @property
    def step(self) -> float:
        """How long the last picture is shown: the mean time of the others, in units of `base`."""
        if len(self.shown) > 1 and self.shown[-1] > self.shown[0]:
            return float(self.shown[-1] - self.shown[0]) / (len(self.shown) - 1)
        return float(1 / (self.nominal * self.base)) if self.nominal else max(float(self.stated), 1.0)

    @property
    def fps(self) -> float:
        """Frames a second, mean over the file.

        The nominal rate if the file states exactly these pictures and their whole duration, or if the mean rate differs
        from it only by the rounding of times.
        """
        if self.nominal and self.n_stated == len(self.shown) and self.stated >= self.shown[-1] - self.shown[0]:
            return float(self.nominal)
        mean = 1 / (self.step * float(self.base))
        rounding = 1 / max(1, int(self.shown[-1] - self.shown[0]))
        is_nominal = self.nominal and abs(mean / float(self.nominal) - 1) <= SAME_RATE + rounding
        return float(self.nominal) if is_nominal else mean

    def times_s(self) -> NDArray[np.float64]:
        """(pictures,) seconds."""
        return self.shown.astype(np.float64) * float(self.base)

    def notes(self, name: str) -> list[str]:
        """A sentence for each thing that is wrong with the file of this name."""
        notes = [f"{self.n_broken} packets of the pictures in {name} could not be decoded"] if self.n_broken else []
        if len(self.jumps):
            after_s = float(self.jumps[0, 0] * self.base)
            notes.append(
                f"the clock of {name} jumps to {after_s:.1f} s: the pictures after that were moved to follow the previous ones"
            )
        return notes + ([f"{name} {self.ends_early}"] if self.ends_early else [])

    def doubt(self, name: str) -> str:
        """A sentence if crops by another program may be numbered differently; else empty."""
        if not self.n_lost:
            return ""
        return (
            f"{self.n_lost} pictures in the middle of {name} seem to be lost, the first after frame {self.lost_after}: crops that "
            "another program made may be numbered differently from there on. Remake them with `abaw prepare`"
        )


def read_stamps(file: Path, cancelled: threading.Event | None = None) -> Stamps:
    """When the pictures of a video file are shown. A file is decoded once; later calls read the cache.

    Args:
        cancelled: decoding stops with a DataError once it is set.

    Raises:
        DataError: the file cannot be read, or no picture in it can be decoded.
    """
    key, stamps = find_stamps(file)
    return stamps if stamps is not None else keep_stamps(key, _decode_times(file, cancelled))


def find_stamps(file: Path) -> tuple[str, Stamps | None]:
    """The key of a file for `keep_stamps`, and when its pictures are shown; None if nothing has decoded it yet.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        key = clock_cache.key_of(file)
    except OSError as error:
        raise DataError(f"{file} cannot be read as a video ({error}). Replace it, or delete it.") from error
    return key, _find(key)


def keep_stamps(key: str, decoding: Decoding) -> Stamps:
    """When the pictures of a file are shown, now and for later calls.

    Args:
        key: of the file before it was decoded.
    """
    stamps = _stamps_from(decoding)
    clock_cache.save(key, _as_arrays(stamps))
    _remember(key, stamps)
    return stamps


def is_timed(file: Path) -> bool:
    """True if `read_stamps` need not decode a file."""
    try:
        return _find(clock_cache.key_of(file)) is not None
    except OSError:
        return False


# so that nothing is decoded twice even if the cache cannot be written
_recent: OrderedDict[str, Stamps] = OrderedDict()
_guard = threading.Lock()


def _find(key: str) -> Stamps | None:
    with _guard:
        if key in _recent:
            return _recent[key]
    arrays = clock_cache.load(key)
    try:
        stamps = None if arrays is None else _from_arrays(arrays)
    except (KeyError, ValueError, TypeError, ZeroDivisionError):
        return None
    if stamps is not None:
        _remember(key, stamps)
    return stamps


def _remember(key: str, stamps: Stamps) -> None:
    with _guard:
        _recent[key] = stamps
        n_pictures = sum(len(one.shown) for one in _recent.values())
        while len(_recent) > MOST_RECENT or (n_pictures > MOST_PICTURES and len(_recent) > 1):
            n_pictures -= len(_recent.popitem(last=False)[1].shown)


def _as_arrays(stamps: Stamps) -> dict[str, NDArray]:
    numbers = [
        *(stamps.base.numerator, stamps.base.denominator, stamps.stated),
        *(stamps.nominal.numerator, stamps.nominal.denominator),
        *(stamps.n_stated, stamps.n_broken, stamps.n_lost, stamps.lost_after),
    ]
    steps = np.diff(stamps.shown, prepend=0)  # they compress better than times
    return {
        "steps": steps,
        "numbers": np.array(numbers, dtype=np.int64),
        "ends_early": np.array(stamps.ends_early),
        "jumps": stamps.jumps,
    }


def _from_arrays(arrays: dict[str, NDArray]) -> Stamps:
    base, per, stated, nominal, nominal_per, n_stated, n_broken, n_lost, lost_after = arrays["numbers"].tolist()
    shown = np.cumsum(arrays["steps"].astype(np.int64))
    if not len(shown):
        raise ValueError("no pictures")
    return Stamps(
        shown=shown,
        base=Fraction(base, per),
        stated=stated,
        nominal=Fraction(nominal, nominal_per),
        n_stated=n_stated,
        n_broken=n_broken,
        n_lost=n_lost,
        lost_after=lost_after,
        ends_early=str(arrays["ends_early"]),
        jumps=arrays["jumps"].astype(np.int64).reshape(-1, 2),
    )


def _decode_times(file: Path, cancelled: threading.Event | None) -> Decoding:
    try:
        with open_media(file) as container:
            return decode_times(container, file, cancelled)
    except (av.FFmpegError, OSError) as error:
        raise DataError(f"{file} cannot be read as a video ({error}). Replace it, or delete it.") from error


def _stamps_from(decoding: Decoding) -> Stamps:
    shown, jumps = in_order(decoding)
    ends_early = how_it_ends(decoding, shown, bool(len(jumps)))
    n_lost, lost_after = find_lost(decoding, shown, bool(ends_early))
    return Stamps(
        shown=shown,
        base=decoding.base,
        stated=decoding.stated,
        nominal=decoding.nominal,
        n_stated=decoding.n_stated,
        n_broken=decoding.n_broken,
        n_lost=n_lost,
        lost_after=lost_after,
        ends_early=ends_early,
        jumps=jumps,
    )
