"""Pictures of a video file: decoded in one pass over it, turned upright, and shrunk where they are larger than needed.

Times are those of the file's own clock, so that constant and variable frame rates are alike, and sound of the same file
can be laid beside them.
"""

from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

from abaw.datasets.clips import CUT_S
from abaw.datasets.videos import open_media
from abaw.errors import DataError

# Networks take squares of 112 to 224 pixels, a few 336: what is finer than that would only fill memory. Frames of 512
# and 540 pixels that were shrunk to it gave inputs of ViT-B/16 within 0.3 grey levels on average, features of a cosine
# above .9999 with those of the whole frames (random weights), HOG above .99: about what storing them as JPEG does.
SHORTER_SIDE_PX = 336
SLACK_S = 1e-3  # Matroska and others round times to milliseconds: a picture counts as shown that much before its time
MOST_BROKEN_PACKETS = 1000


class Picture(NamedTuple):
    """A decoded frame: its number in the file from 0, when it is shown, and (height, width, 3) uint8 RGB."""

    number: int
    time_s: float
    image: NDArray[np.uint8]


def read_pictures(
    file: Path,
    indices: Container[int] | None = None,
    shorter_side: int = 0,
    n_threads: int = 1,
    notes: list[str] | None = None,
) -> Iterator[Picture]:
    """All frames of a video file in the order they are shown, or those whose number is in `indices`.

    Only these are made RGB. Frames that are damaged beyond decoding are passed over.

    Args:
        indices: numbers of frames, from 0.
        shorter_side: shrink larger pictures to so many pixels; 0 leaves them as they are.
        n_threads: of the decoder; 0 takes one per processor.
        notes: gets, at the end, a sentence for each thing that was wrong with the file.

    Raises:
        DataError: not one frame can be decoded.
    """
    for index, time_s, frame in _decoded(file, n_threads, notes):
        if indices is None or index in indices:
            yield Picture(index, time_s, as_rgb(frame, shorter_side))


def read_pictures_at(
    file: Path, times_s: Sequence[float], shorter_side: int = 0, n_threads: int = 1
) -> Iterator[Picture]:
    """What is shown at some times: for each the last frame that begins by then, or the first one before the first.

    A frame that is asked for several times is converted once. Ends early if the pictures end more than `CUT_S` before
    a time that is asked for.

    Args:
        times_s: ascending, on the clock of the file.
        shorter_side, n_threads: see `read_pictures`.

    Raises:
        DataError: not one frame can be decoded.
    """
    n_done = 0
    shown: tuple[int, float, av.VideoFrame] | None = None
    for index, time_s, frame in _decoded(file, n_threads):
        if shown is not None:
            n_due = int(np.searchsorted(times_s, time_s - SLACK_S, side="left"))
            yield from _repeated(shown, n_due - n_done, shorter_side)
            n_done = max(n_done, n_due)
        if n_done == len(times_s):
            return
        shown = index, time_s, frame
    if shown is not None:
        n_due = int(np.searchsorted(times_s, shown[1] + CUT_S, side="right"))
        yield from _repeated(shown, n_due - n_done, shorter_side)


def _repeated(shown: tuple[int, float, av.VideoFrame], n_times: int, shorter_side: int) -> Iterator[Picture]:
    if n_times > 0:
        index, time_s, frame = shown
        yield from [Picture(index, time_s, as_rgb(frame, shorter_side))] * n_times


def _decoded(file: Path, n_threads: int, notes: list[str] | None = None) -> Iterator[tuple[int, float, av.VideoFrame]]:
    """Number, time and frame of all that can be decoded; notes on what cannot."""
    index, last_s, n_broken = 0, 0.0, 0
    try:
        with open_media(file) as container:
            if not container.streams.video:
                raise DataError(f"{file} has no pictures. Replace it, or delete it.")
            stream = container.streams.video[0]
            stream.codec_context.thread_count = n_threads
            packets = container.demux(stream)
            while n_broken <= MOST_BROKEN_PACKETS:
                try:
                    packet = next(packets, None)
                    frames = packet.decode() if packet is not None else None
                except av.error.EOFError:
                    break
                except av.FFmpegError:  # one damaged packet; a container that cannot go on raises the same, then ends
                    n_broken += 1
                    continue
                if frames is None:
                    break
                for frame in frames:
                    assert isinstance(frame, av.VideoFrame)
                    # a frame without a time, or with one that goes back, is shown with the one before
                    last_s = max(frame.time, last_s) if frame.time is not None and index else frame.time or last_s
                    yield index, last_s, frame
                    index += 1
            if notes is not None:
                notes += _what_is_missing(file, container, n_broken, index, last_s)
    except (av.FFmpegError, OSError) as error:
        raise DataError(f"{file} cannot be read as a video ({error}). Replace it, or delete it.") from error
    if not index:
        raise DataError(f"{file} has no picture that can be decoded. Replace it, or delete it.")


def _what_is_missing(
    file: Path, container: av.container.InputContainer, n_broken: int, n_frames: int, last_s: float
) -> list[str]:
    """Sentences about damaged packets, and about an end before the one that the file states."""
    notes = [f"{n_broken} packets of the pictures in {file.name} could not be decoded"] if n_broken else []
    stream = container.streams.video[0]
    n_stated, rate = stream.frames, float(stream.average_rate or stream.guessed_rate or 0)
    if n_stated and n_frames < n_stated - CUT_S * rate:
        notes.append(f"{file.name} is cut off or damaged: {n_frames} of {n_stated} frames could be decoded")
    elif not n_stated and not container.streams.audio and container.duration is not None:  # sound may go on for longer
        stated_s = ((container.start_time or 0) + container.duration) / av.time_base
        if last_s < stated_s - CUT_S - 1 / max(rate, 1):
            notes.append(f"{file.name} is cut off: its pictures end at {last_s:.1f} of {stated_s:.1f} s")
    return notes


def as_rgb(frame: av.VideoFrame, shorter_side: int = 0) -> NDArray[np.uint8]:
    """A frame as (height, width, 3) uint8 RGB, turned as its file says.

    Args:
        shorter_side: shrink a larger picture to so many pixels, see `shrink`; 0 leaves it as it is.
    """
    image = np.asarray(frame.to_ndarray(format="rgb24", threads=1), dtype=np.uint8)
    image = shrink(image, shorter_side)
    return np.ascontiguousarray(np.rot90(image, round(frame.rotation / 90) % 4))


def shrink(image: NDArray[np.uint8], shorter_side: int) -> NDArray[np.uint8]:
    """An image (height, width, 3), shrunk by averaging areas so that its shorter side has so many pixels.

    A smaller one, or any with a `shorter_side` of 0, stays as it is. It is made RGB before: in one step FFmpeg takes
    another way to RGB, up to one grey level brighter, which changes features more than the shrinking does.
    """
    height, width = image.shape[:2]
    ratio = shorter_side / min(height, width)
    if not 0 < ratio < 1:
        return image
    size = max(1, round(width * ratio)), max(1, round(height * ratio))
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
    small = frame.reformat(*size, "rgb24", interpolation=Interpolation.AREA, threads=1)
    return np.asarray(small.to_ndarray(), dtype=np.uint8)
