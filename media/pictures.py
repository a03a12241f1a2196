"""Pictures of a video file: decoded in one pass over it, turned upright, and shrunk where they are larger than needed.

Times are on the file's own clock, so that constant and variable frame rates work alike, and sound of the same file
can be aligned with them.
"""

from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

from abaw.core.errors import DataError
from abaw.media.decoder import open_media
from abaw.media.orientation import Orientation, Turning
from abaw.media.picture_times import CUT_S, TimedDecoder
from abaw.media.stamps import Stamps, find_stamps, keep_stamps, read_stamps

# Networks take squares of 112 to 224 pixels, a few 336: what is finer than that would only fill memory. Frames of 512
# and 540 pixels that were shrunk to it gave inputs of ViT-B/16 within 0.3 grey levels on average, features of a cosine
# above .9999 with those of the whole frames (random weights), HOG above .99: about what storing them as JPEG does.
SHORTER_SIDE_PX = 336
SLACK_S = 1e-3  # Matroska and others round times to milliseconds: a picture counts as shown that much before its time


class OutOfOrderError(DataError):
    """Pictures of a file were read with times that turned out to be wrong. The right ones are known now: read it again."""


class Picture(NamedTuple):
    """A decoded frame: its number in the file from 0, when it is shown, and (height, width, 3) uint8 RGB."""

    number: int
    time_s: float
    image: NDArray[np.uint8]


class _Shown(NamedTuple):
    """A decoded frame that may still be converted to a picture."""

    number: int
    time_s: float
    frame: av.VideoFrame
    orientation: Orientation

    def picture(self, shorter_side: int) -> Picture:
        return Picture(self.number, self.time_s, as_rgb(self.frame, shorter_side, self.orientation))


def read_pictures(
    file: Path,
    indices: Container[int] | None = None,
    shorter_side: int = 0,
    n_threads: int = 1,
    notes: list[str] | None = None,
) -> Iterator[Picture]:
    """All frames of a video file in the order they are shown, or those whose number is in `indices`.

    Only these are converted to RGB. Frames that cannot be decoded are skipped.

    Args:
        indices: numbers of frames, from 0.
        shorter_side: shrink larger pictures to this many pixels; 0 keeps their size.
        n_threads: of the decoder; 0 takes one per processor.
        notes: at the end, a sentence is added for each thing that is wrong with the file.

    Raises:
        DataError: not one frame can be decoded.
        OutOfOrderError: pictures that were read have other times; a second reading has the right ones.
    """
    for shown in _decoded(file, n_threads, notes):
        if indices is None or shown.number in indices:
            yield shown.picture(shorter_side)


def read_pictures_at(
    file: Path, times_s: Sequence[float], shorter_side: int = 0, n_threads: int = 1
) -> Iterator[Picture]:
    """The pictures shown at some times: the last frame that begins by then, or the first frame for earlier times.

    A frame that is needed several times is converted once. Ends early if the pictures end more than `CUT_S` before
    one of the times.

    Args:
        times_s: ascending, on the clock of the file.
        shorter_side, n_threads: see `read_pictures`.

    Raises:
        DataError: not one frame can be decoded.
    """
    n_done = 0
    shown: _Shown | None = None
    for following in _decoded(file, n_threads):
        if shown is not None:
            n_due = int(np.searchsorted(times_s, following.time_s - SLACK_S, side="left"))
            yield from _repeated(shown, n_due - n_done, shorter_side)
            n_done = max(n_done, n_due)
        if n_done == len(times_s):
            return
        shown = following
    if shown is not None:
        n_due = int(np.searchsorted(times_s, shown.time_s + CUT_S, side="right"))
        yield from _repeated(shown, n_due - n_done, shorter_side)


def as_shown_at(shown_s: NDArray[np.float64], times_s: Sequence[float]) -> list[int]:
    """The numbers of the pictures that `read_pictures_at` gives.

    Args:
        shown_s: when each picture of the file is shown, ascending.
        times_s: ascending.
    """
    wanted = np.asarray(times_s, dtype=np.float64)
    covered = wanted[wanted <= shown_s[-1] + CUT_S]
    return (np.searchsorted(shown_s - SLACK_S, covered, side="right") - 1).clip(0).tolist()


def _repeated(shown: _Shown, n_times: int, shorter_side: int) -> Iterator[Picture]:
    if n_times > 0:
        yield from [shown.picture(shorter_side)] * n_times


def _decoded(file: Path, n_threads: int, notes: list[str] | None = None) -> Iterator[_Shown]:
    """All frames that can be decoded; adds notes on what is wrong with the file."""
    turning, n_frames = Turning(), 0
    key, stamps = find_stamps(file)
    try:
        with open_media(file) as container:
            decoder = TimedDecoder(container, file, n_threads)
            if stamps is None and not decoder.is_ordered:
                stamps = read_stamps(file)
            times_s = None if stamps is None else stamps.times_s()
            for frame in decoder:
                if times_s is None and not decoder.is_plain:
                    stamps = read_stamps(file)
                    times_s = _continued(stamps, decoder, file)
                if times_s is not None and n_frames == len(times_s):
                    break
                yield _Shown(
                    n_frames,
                    _time_s(decoder) if times_s is None else float(times_s[n_frames]),
                    frame,
                    turning.of(frame),
                )
                n_frames += 1
            if stamps is None:
                stamps = keep_stamps(key, decoder.decoding())
    except (av.FFmpegError, OSError) as error:
        raise DataError(f"{file} cannot be read as a video ({error}). Replace it, or delete it.") from error
    if notes is not None:
        notes += stamps.notes(file.name)


def _time_s(decoder: TimedDecoder) -> float:
    """When the last picture is shown, in a file whose times are plain."""
    time = decoder.times[-1]
    assert time is not None, "see TimedDecoder.is_plain"
    return float(time) * float(decoder.base)


def _continued(stamps: Stamps, decoder: TimedDecoder, file: Path) -> NDArray[np.float64]:
    """The times of all pictures, of which all but the last one that was decoded are in use already.

    Raises:
        OutOfOrderError: those were others.
    """
    n_used = len(decoder.times) - 1
    if stamps.shown[:n_used].tolist() != decoder.times[:n_used]:
        raise OutOfOrderError(
            f"Pictures in {file} are out of order; their times are known now. Run the same command again."
        )
    return stamps.times_s()


def as_rgb(frame: av.VideoFrame, shorter_side: int = 0, orientation: Orientation | None = None) -> NDArray[np.uint8]:
    """A frame as (height, width, 3) uint8 RGB, turned and mirrored to be upright.

    Args:
        shorter_side: shrink a larger picture to this many pixels, see `shrink`; 0 keeps its size.
        orientation: from `Turning`; None takes the one that the frame itself states.
    """
    image = np.asarray(frame.to_ndarray(format="rgb24", threads=1), dtype=np.uint8)
    image = shrink(image, shorter_side)
    return (Turning().of(frame) if orientation is None else orientation).turn(image)


def shrink(image: NDArray[np.uint8], shorter_side: int) -> NDArray[np.uint8]:
    """An image (height, width, 3), shrunk by averaging areas so that its shorter side has this many pixels.

    Smaller images, and all with a `shorter_side` of 0, are returned unchanged. Images are converted to RGB before: in a
    single step FFmpeg would convert up to one grey level brighter, which changes features more than shrinking does.
    """
    height, width = image.shape[:2]
    ratio = shorter_side / min(height, width)
    if not 0 < ratio < 1:
        return image
    size = max(1, round(width * ratio)), max(1, round(height * ratio))
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
    small = frame.reformat(*size, "rgb24", interpolation=Interpolation.AREA, threads=1)
    return np.asarray(small.to_ndarray(), dtype=np.uint8)
