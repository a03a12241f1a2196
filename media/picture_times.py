"""The times of a video's pictures from decoding it: their order, the lost ones, and how the file ends."""

import threading
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from abaw.core.errors import DataError
from abaw.media.decoder import PictureDecoder, picture_stream
from abaw.media.tracks import sound_track

CUT_S = 0.5  # a file that ends at least this much before its stated duration is cut off
RESTART_S = 1.0  # times that go back by more are from another recording, as if two files were joined
JUMP_S = 10.0  # times that go ahead by more, without sound in between, are from a clock that was reset
ONE_BY_ONE = ("mov", "matroska")  # containers in which a packet is a picture
ORDERED = ("h264", "hevc", "vp8", "vp9", "av1")  # codecs whose decoders put pictures in the order of their times
HIDING = ("vp8", "vp9", "av1")  # codecs with packets that are never shown
# containers that drop damaged packets silently, and whose clocks jump
STREAMED = ("mpegts", "flv", "asf", "mpeg")
EXACT = ("mov",)  # containers whose table has the duration of each picture
ODD_GAPS = 0.05  # the most odd gaps between pictures, as a share, if the others are to count as even
LONG_GAP = 3  # pictures; in other containers a shorter gap may have been recorded like that
REORDERED = 16  # pictures at the end that may be out of order


@dataclass(frozen=True)
class Decoding:
    """The result of decoding a file.

    Attributes:
        kind, codec: FFmpeg's names of the container and the picture codec.
        times: time of each decoded picture, in units of `base`; None if unknown.
        base: seconds per unit.
        nominal, stated, n_stated: frame rate, duration in units of `base` and number of pictures that the file states; 0
            if unknown.
        n_broken: packets that could not be decoded.
        broken_after: number of pictures before each broken packet.
        due: times of packets that should be shown.
        heard_s: times of sound packets in seconds, in file order.
        end_s: end that the file states; None if unknown.
        n_cut: pictures that should be beyond the end of the file, by its table.
        is_short: the file has fewer bytes than its header states.
    """

    kind: str
    codec: str
    times: Sequence[int | None]
    base: Fraction
    nominal: Fraction
    stated: int
    n_stated: int
    n_broken: int
    broken_after: list[int]
    due: Sequence[int]
    heard_s: NDArray[np.float64]
    end_s: float | None
    n_cut: int
    is_short: bool


class TimedDecoder:
    """Decodes the pictures of an open file, see `PictureDecoder`, and notes what its clock depends on.

    Args:
        n_threads, times_alone: see `PictureDecoder`.

    Attributes:
        base: seconds per unit of times.
        times: of the pictures so far, see `Decoding`.

    Raises:
        DataError: the file has no pictures.
    """

    def __init__(self, container: InputContainer, file: Path, n_threads: int = 1, times_alone: bool = False) -> None:
        self._container, self._file = container, file
        self._stream = picture_stream(container, file)
        self._heard = array("d")
        sound = sound_track(container)
        second = (sound, self._hear) if sound is not None else None
        self._decoder = PictureDecoder(container, self._stream, n_threads, times_alone, second)
        self.base = self._stream.time_base or Fraction(1, 1000)
        self.times: list[int | None] = []

    def __iter__(self) -> Iterator[VideoFrame]:
        """The pictures; raises like `PictureDecoder`."""
        for frame in self._decoder:
            self.times.append(frame.pts if frame.pts is not None else frame.dts)
            yield frame

    @property
    def is_plain(self) -> bool:
        """True if the times of the pictures so far, of which the last is new, are final: nothing is damaged, and they ascend."""
        last, *before = self.times[:-3:-1]
        if last is None or self._decoder.n_broken or not self.is_ordered:
            return False
        return not before or (before[0] is not None and 0 < (last - before[0]) * self.base <= JUMP_S)

    @property
    def is_ordered(self) -> bool:
        """True for containers with a time for each picture, and codecs that give pictures in the order of these times."""
        return self._kind in ONE_BY_ONE and self._stream.codec_context.name in ORDERED

    @property
    def _kind(self) -> str:
        return self._container.format.name.split(",")[0]

    def _hear(self, packet: Packet) -> None:
        if packet.pts is not None and packet.time_base is not None:
            self._heard.append(float(packet.pts * packet.time_base))

    def decoding(self) -> Decoding:
        """The result, once all pictures were decoded.

        Raises:
            DataError: there was no picture.
        """
        if not self.times:
            raise DataError(f"{self._file} has no picture that can be decoded. Replace it, or delete it.")
        container, stream, end_s = self._container, self._stream, None
        if container.duration is not None:
            end_s = ((container.start_time or 0) + container.duration) / av.time_base
        return Decoding(
            kind=self._kind,
            codec=stream.codec_context.name,
            times=self.times,
            base=self.base,
            nominal=stream.average_rate or stream.guessed_rate or Fraction(0),
            stated=stream.duration or 0,
            n_stated=stream.frames,
            n_broken=self._decoder.n_broken,
            broken_after=self._decoder.broken_after,
            due=self._decoder.due,
            heard_s=np.array(self._heard),
            end_s=end_s,
            n_cut=_beyond_the_end(stream, self._file),
            is_short=_is_short(self._file),
        )


def decode_times(container: InputContainer, file: Path, cancelled: threading.Event | None) -> Decoding:
    """Decode all pictures of a file for their times.

    Args:
        cancelled: decoding stops with a DataError once it is set.

    Raises:
        av.FFmpegError, OSError: the file cannot be read.
        DataError: no picture can be decoded.
    """
    decoder = TimedDecoder(container, file, times_alone=True)
    for _ in decoder:
        if cancelled is not None and cancelled.is_set():
            raise DataError(f"{file} was not read to its end.")
    return decoder.decoding()


def _beyond_the_end(stream: VideoStream, file: Path) -> int:
    """The number of pictures in the file's table whose bytes are missing."""
    size_bytes = file.stat().st_size
    return sum(1 for entry in stream.index_entries if entry.pos + entry.size > size_bytes)


def _is_short(file: Path) -> bool:
    """True for a RIFF file, as AVI is, that was cut off."""
    with file.open("rb") as stream:
        header = stream.read(8)
    stated = int.from_bytes(header[4:], "little") + 8
    return header[:4] == b"RIFF" and stated > file.stat().st_size


def in_order(decoding: Decoding) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Times of all pictures, ascending, and the jumps of the clock, see `Stamps.jumps`.

    Decoders return pictures in display order; containers like AVI have only decoding times, whose order may differ. A
    picture without a time is shown between its neighbours. Where times go back by more than `RESTART_S`, or jump ahead,
    a new recording begins and is shown after the previous one.
    """
    step = float(1 / (decoding.nominal * decoding.base)) if decoding.nominal else 1.0
    timed = np.array([i for i, time in enumerate(decoding.times) if time is not None], dtype=np.int64)
    if not len(timed):
        return np.rint(np.arange(len(decoding.times)) * step).astype(np.int64), np.zeros((0, 2), dtype=np.int64)
    stamped = np.array([time for time in decoding.times if time is not None], dtype=np.int64)
    ordered, jumps = stamped.copy(), []
    apart_s = np.diff(stamped) * float(decoding.base)
    for start in (np.flatnonzero((apart_s < -RESTART_S) | (apart_s > JUMP_S)) + 1).tolist():
        is_back = apart_s[start - 1] < 0
        if is_back or _is_jump(decoding, int(stamped[start - 1]), int(stamped[start])):
            less = int(ordered[start]) - int(ordered[:start].max()) - round(step)
            ordered[start:] -= less
            jumps += [] if is_back else [(int(stamped[start]), less)]
    ordered = np.sort(ordered)
    rows = np.arange(len(decoding.times))
    if len(timed) < len(rows):
        beyond = np.minimum(rows - timed[0], 0) + np.maximum(rows - timed[-1], 0)
        ordered = np.rint(np.interp(rows, timed, ordered) + step * beyond).astype(np.int64)
    return ordered, np.array(jumps, dtype=np.int64).reshape(-1, 2)


def _is_jump(decoding: Decoding, before: int, after: int) -> bool:
    """True if no sound was recorded between two pictures that are far apart, in a container whose clock may jump."""
    heard_s, begin_s, end_s = decoding.heard_s, float(before * decoding.base), float(after * decoding.base)
    meanwhile = (heard_s > begin_s + RESTART_S) & (heard_s < end_s - RESTART_S)
    return decoding.kind in STREAMED and not meanwhile.any()


def find_lost(decoding: Decoding, shown: NDArray[np.int64], is_cut: bool) -> tuple[int, int]:
    """How many pictures are missing between others, as far as is known, and the frame after which the first is missing.

    Args:
        is_cut: the file ends early; pictures missing at its end do not count.
    """
    candidates = [np.array(decoding.broken_after, dtype=np.int64)]
    if decoding.kind in ONE_BY_ONE and decoding.codec not in HIDING:
        due = np.setdiff1d(np.array(decoding.due, dtype=np.int64), shown)
        candidates.append(np.searchsorted(shown, due[(due > shown[0]) & (due < shown[-1])]))
    if decoding.kind not in EXACT:
        candidates.append(_in_gaps(shown, 1 if decoding.kind in STREAMED else LONG_GAP))
    last = len(shown) - (REORDERED if is_cut or decoding.kind in STREAMED else 0)
    lost = max((rows[(rows > 0) & (rows < last)] for rows in candidates), key=len)
    return len(lost), int(lost.min()) if len(lost) else 0


def _in_gaps(shown: NDArray[np.int64], shortest: int) -> NDArray[np.int64]:
    """The picture before each missing one, from gaps between pictures that otherwise follow evenly.

    Args:
        shortest: the fewest missing pictures in a gap that count.
    """
    gaps = np.diff(shown)
    usual = float(np.median(gaps)) if len(gaps) > 1 else 0.0
    if usual <= 0:
        return np.zeros(0, dtype=np.int64)
    odd = np.abs(gaps - usual) > 0.1 * usual + 1
    n_missing = np.where(odd, np.rint(gaps / usual) - 1, 0).astype(np.int64)
    is_even = odd.mean() <= ODD_GAPS
    n_missing[n_missing < (shortest if is_even else len(shown))] = 0
    return np.repeat(np.arange(1, len(shown)), n_missing.clip(max=len(shown)))


def how_it_ends(decoding: Decoding, shown: NDArray[np.int64], has_jumps: bool) -> str:
    """A sentence, without its subject, about an end before the one that the file states; empty if it ends as stated."""
    last_s, slack_s = float(shown[-1] * decoding.base), CUT_S + 1 / max(float(decoding.nominal), 1.0)
    if decoding.kind in EXACT:
        n_decoded = len(shown)
        return (
            f"is cut off or damaged: it has {n_decoded} of {n_decoded + decoding.n_cut} frames"
            if decoding.n_cut
            else ""
        )
    if decoding.kind == "avi":  # its headers count frames that do not exist
        stated_s = float(max(decoding.stated, decoding.n_stated) * decoding.base)
        is_cut = last_s < stated_s - slack_s and (
            decoding.is_short or last_s < float(decoding.stated * decoding.base) - slack_s
        )
    else:  # sound may last longer
        stated_s = decoding.end_s or 0.0
        is_cut = max(last_s, float(decoding.heard_s.max(initial=last_s))) < stated_s - slack_s
    return (
        f"is cut off or damaged: its pictures end at {last_s:.1f} of {stated_s:.1f} s"
        if is_cut and not has_jumps
        else ""
    )
