"""Pictures of a video file: decoded in one pass over it, turned upright, and shrunk where they are larger than needed.

Times are on the file's own clock, so that constant and variable frame rates work alike, and sound of the same file
can be aligned with them.
"""

from collections.abc import Container, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

from abaw.core.errors import DataError
from abaw.media.decoder import PictureDecoder, open_media, picture_stream
from abaw.media.orientation import Orientation, Turning
from abaw.media.picture_times import CUT_S
from abaw.media.stamps import read_stamps

# Networks take squares of 112 to 224 pixels, a few 336: what is finer than that would only fill memory. Frames of 512
# and 540 pixels that were shrunk to it gave inputs of ViT-B/16 within 0.3 grey levels on average, features of a cosine
# above .9999 with those of the whole frames (random weights), HOG above .99: about what storing them as JPEG does.
SHORTER_SIDE_PX = 336
SLACK_S = 1e-3  # Matroska and others round times to milliseconds: a picture counts as shown that much before its time


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
    stamps = read_stamps(file)
    times_s, turning = stamps.times_s(), Turning()
    try:
        with open_media(file) as container:
            decoder = PictureDecoder(container, picture_stream(container, file), n_threads)
            for index, frame in enumerate(islice(decoder, len(times_s))):
                yield _Shown(index, float(times_s[index]), frame, turning.of(frame))
    except (av.FFmpegError, OSError) as error:
        raise DataError(f"{file} cannot be read as a video ({error}). Replace it, or delete it.") from error
    if notes is not None:
        notes += stamps.notes(file.name)


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
