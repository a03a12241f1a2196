"""The clock of a video file: frame i is the i-th picture that its decoder gives, and is shown when that is shown.

What a container says of its pictures is not what is seen: it counts hidden ones (VP8), those before an edit list begins,
those that cannot be decoded without what was cut off before them, and damaged ones. So each file is decoded once, for the
times of its pictures alone, and the result is kept; see `abaw.datasets.kept`.
"""

import threading
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

from abaw.datasets import kept
from abaw.datasets.pictures import PictureDecoder, open_media, picture_stream
from abaw.errors import DataError

CUT_S = 0.5  # a file that ends so much before the duration it states is cut off
ONE_BY_ONE = ("mov", "matroska")  # containers in which a packet is a picture
HIDING = ("vp8", "vp9", "av1")  # codecs with packets that are never shown
STREAMED = ("mpegts", "flv", "asf", "mpeg")  # containers that lose damaged packets without a word
RESTART_S = 1.0  # times that go back for longer are of another recording, as where two files were joined
ODD_GAPS = 0.05  # of the gaps between pictures, where the others are alike
SAME_RATE = 1e-4  # relative difference of rates that are one, beside what rounded times make


@dataclass(frozen=True)
class Stamps:
    """When the pictures of a video file are shown, on the clock of the file.

    Attributes:
        shown: (pictures,) int64 ascending, in units of `base`; picture i is frame i + 1.
        base: seconds of a unit.
        stated: duration that the file states, in units of `base`; 0 where it states none.
        nominal: frame rate that the file states; 0 where it states none.
        n_stated: pictures that the file states; 0 where it states none.
        n_broken: packets that could not be decoded.
        n_lost: pictures that are missing between others, as far as that can be told.
        lost_after: number of the frame after which the first of them is missing.
        ends_early: how the file ends before it should, as a sentence without its subject; empty if it does not.
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

    @property
    def step(self) -> float:
        """How long the last picture is shown: the mean time of the others, in units of `base`."""
        if len(self.shown) > 1 and self.shown[-1] > self.shown[0]:
            return float(self.shown[-1] - self.shown[0]) / (len(self.shown) - 1)
        return float(1 / (self.nominal * self.base)) if self.nominal else max(float(self.stated), 1.0)

    @property
    def fps(self) -> float:
        """Frames a second, mean over the file.

        The nominal rate, where it is of just these pictures, or where the times differ from it by their rounding.
        """
        if self.nominal and self.n_stated == len(self.shown):
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
        return notes + ([f"{name} {self.ends_early}"] if self.ends_early else [])

    def doubt(self, name: str) -> str:
        """A sentence where crops that another program made may be numbered otherwise; else empty."""
        if not self.n_lost:
            return ""
        return (
            f"{self.n_lost} pictures in the middle of {name} are lost, the first after frame {self.lost_after}: crops that "
            "another program made may be numbered otherwise from there on. Make them anew with `abaw prepare`"
        )


def read_stamps(file: Path, cancelled: threading.Event | None = None) -> Stamps:
    """When the pictures of a video file are shown. Decoded once; the next time, what was kept of it is read.

    Args:
        cancelled: gives up once it is set.

    Raises:
        DataError: the file cannot be read, has no pictures, or not one that can be decoded.
    """
    try:
        key = kept.key_of(file)
    except OSError as error:
        raise DataError(f"{file} cannot be read as a video ({error}). Replace it, or delete it.") from error
    stamps = _load(key)
    if stamps is None:
        stamps = _decode_stamps(file, cancelled)
        kept.save(key, _as_arrays(stamps))
        _load.cache_clear()
    return stamps


def is_timed(file: Path) -> bool:
    """True if `read_stamps` need not decode a file."""
    try:
        return _load(kept.key_of(file)) is not None
    except OSError:
        return False


@lru_cache(maxsize=256)
def _load(key: str) -> Stamps | None:
    found = kept.load(key)
    try:
        return None if found is None else _from_arrays(found)
    except (KeyError, ValueError, TypeError, ZeroDivisionError):
        return None


def _as_arrays(stamps: Stamps) -> dict[str, NDArray]:
    numbers = [
        *(stamps.base.numerator, stamps.base.denominator, stamps.stated),
        *(stamps.nominal.numerator, stamps.nominal.denominator),
        *(stamps.n_stated, stamps.n_broken, stamps.n_lost, stamps.lost_after),
    ]
    steps = np.diff(stamps.shown, prepend=0)  # alike, so that they take little room
    return {"steps": steps, "numbers": np.array(numbers, dtype=np.int64), "ends_early": np.array(stamps.ends_early)}


def _from_arrays(found: dict[str, NDArray]) -> Stamps:
    base, per, stated, nominal, nominal_per, n_stated, n_broken, n_lost, lost_after = found["numbers"].tolist()
    shown = np.cumsum(found["steps"].astype(np.int64))
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
        ends_early=str(found["ends_early"]),
    )


def _decode_stamps(file: Path, cancelled: threading.Event | None) -> Stamps:
    times: list[int | None] = []
    try:
        with open_media(file) as container:
            stream = picture_stream(container, file)
            decoder = PictureDecoder(container, stream, times_alone=True)
            for frame in decoder:
                times.append(frame.pts if frame.pts is not None else frame.dts)
                if cancelled is not None and cancelled.is_set():
                    raise DataError(f"{file} was not read to its end.")
            if not times:
                raise DataError(f"{file} has no picture that can be decoded. Replace it, or delete it.")
            return _made(container, stream, decoder, times)
    except (av.FFmpegError, OSError) as error:
        raise DataError(f"{file} cannot be read as a video ({error}). Replace it, or delete it.") from error


def _made(container: InputContainer, stream: VideoStream, decoder: PictureDecoder, times: list[int | None]) -> Stamps:
    base = stream.time_base or Fraction(1, 1000)
    nominal = stream.average_rate or stream.guessed_rate or Fraction(0)
    shown = _ascending(times, float(1 / (nominal * base)) if nominal else 1.0, base)
    kind = container.format.name.split(",")[0]
    n_lost, lost_after = _lost(kind, stream, decoder, shown)
    ends_early = _how_it_ends(container, stream, decoder, float(shown[-1] * base), float(nominal))
    return Stamps(
        shown, base, stream.duration or 0, nominal, stream.frames, decoder.n_broken, n_lost, lost_after, ends_early
    )


def _ascending(times: list[int | None], step: float, base: Fraction) -> NDArray[np.int64]:
    """Times of all pictures, in order.

    Decoders give pictures in the order they are shown; a container like AVI has times of decoding alone, which come in
    another one. A picture without a time is shown between its neighbours. Where times go back for more than `RESTART_S`,
    a new recording begins, and is shown after the one before.
    """
    known = np.array([i for i, time in enumerate(times) if time is not None], dtype=np.int64)
    if not len(known):
        return np.rint(np.arange(len(times)) * step).astype(np.int64)
    found = np.array([time for time in times if time is not None], dtype=np.int64)
    restarts = np.flatnonzero(np.diff(found) * float(base) < -RESTART_S) + 1
    for start in restarts.tolist():
        found[start:] += found[:start].max() + round(step) - found[start]
    found = np.sort(found)
    if len(known) == len(times):
        return found
    rows = np.arange(len(times))
    filled = np.interp(rows, known, found) + step * (np.minimum(rows - known[0], 0) + np.maximum(rows - known[-1], 0))
    return np.rint(filled).astype(np.int64)


def _lost(kind: str, stream: VideoStream, decoder: PictureDecoder, shown: NDArray[np.int64]) -> tuple[int, int]:
    """How many pictures are missing between others, and the frame after which the first one is."""
    broken = [n for n in decoder.broken_after if 0 < n < len(shown)]
    places = np.array(broken, dtype=np.int64)
    if kind in ONE_BY_ONE and stream.codec_context.name not in HIDING:
        due = np.setdiff1d(np.array(decoder.due, dtype=np.int64), shown)
        due = due[(due > shown[0]) & (due < shown[-1])]
        places = np.searchsorted(shown, due) if len(due) >= len(places) else places
    elif kind in STREAMED and len(shown) > 2:
        gaps = np.diff(shown)
        usual = float(np.median(gaps))
        odd = np.abs(gaps - usual) > 0.1 * usual + 1
        if usual > 0 and odd.mean() <= ODD_GAPS:
            n_missing = np.where(odd, np.rint(gaps / usual) - 1, 0).clip(min=0).astype(np.int64)
            found = np.repeat(np.arange(1, len(shown)), n_missing)
            places = found if len(found) >= len(places) else places
    return len(places), int(places.min(initial=len(shown))) if len(places) else 0


def _how_it_ends(
    container: InputContainer, stream: VideoStream, decoder: PictureDecoder, last_s: float, rate: float
) -> str:
    """What to say of an end before the one that the file states; empty if there is nothing to say."""
    n_stated = stream.frames
    if container.format.name == "avi":  # its headers count frames that are nowhere: the time that they take is right
        stated_s = float((stream.duration or 0) * (stream.time_base or 0))
        if last_s < stated_s - CUT_S - 1 / max(rate, 1):
            return f"is cut off or damaged: its pictures end at {last_s:.1f} of {stated_s:.1f} s"
    elif n_stated and decoder.n_packets < n_stated - CUT_S * rate:
        return f"is cut off or damaged: {decoder.n_frames} of {n_stated} frames could be decoded"
    elif not n_stated and not container.streams.audio and container.duration is not None:  # sound may go on for longer
        stated_s = ((container.start_time or 0) + container.duration) / av.time_base
        if last_s < stated_s - CUT_S - 1 / max(rate, 1):
            return f"is cut off: its pictures end at {last_s:.1f} of {stated_s:.1f} s"
    return ""
