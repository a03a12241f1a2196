"""Frames ahead of the model: crops and clips of many videos, decoded in threads, in batches that videos share.

Crops are decoded some at a time; the frames of a clip all at once, in one pass over its file, and shrunk at once: those
of a clip in full HD take 45 MB together.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from abaw.core.clock import Clock
from abaw.core.errors import DataError
from abaw.datasets.clips import Clip
from abaw.datasets.crops import Crops, describe_no_crops
from abaw.datasets.dataset import Video
from abaw.media.images import read_image
from abaw.media.pictures import SHORTER_SIDE_PX, read_pictures_at, shrink
from abaw.media.probe import probe_span
from abaw.media.tensors import read_image_tensor

FRAMES_PER_TASK = 32  # decoded by one thread in one go
BATCHES_AHEAD = 3


@dataclass(frozen=True)
class Source:
    """A video to be read: its crops, its clock, and the digest of both (`Dataset.digest`)."""

    video: Video
    crops: Crops
    clock: Clock
    digest: str

    @property
    def rows(self) -> NDArray[np.int64]:
        """(crops,) frame number - 1.

        Raises:
            DataError: there is no crop.
        """
        if not self.crops.names:
            raise DataError(describe_no_crops(self.crops))
        return self.crops.numbers - 1


@dataclass(frozen=True)
class Frames:
    """Some frames of one video: `images` of `rows`, and sentences for the `broken` rows."""

    source: Source
    rows: NDArray[np.int64]
    images: list[NDArray[np.uint8]]
    broken: list[tuple[int, str]]


@dataclass(frozen=True)
class FrameBatch:
    """Frames of one or more videos, those of one image size together.

    Attributes:
        images: of each size, (frames, height, width, 3) uint8 RGB.
        parts: the videos in the order of the images, each with its rows.
    """

    images: list[NDArray[np.uint8]]
    parts: list[tuple[Source, NDArray[np.int64]]]

    @property
    def n_frames(self) -> int:
        """Frames of all sizes."""
        return sum(map(len, self.images))


def read_frames(sources: Iterable[Source], pool: ThreadPoolExecutor, n_ahead: int) -> Iterator[Frames]:
    """Decode the frames of all sources in order, about `n_ahead` frames before they are asked for."""
    waiting: deque[tuple[Future[Frames], int]] = deque()
    n_waiting = 0
    for source in sources:
        is_clip, n_frames = isinstance(source.video, Clip), len(source.crops.names)
        step = n_frames if is_clip else FRAMES_PER_TASK
        for start in range(0, n_frames, step):
            work = pool.submit(decode_clip, source) if is_clip else pool.submit(_decode, source, start)
            waiting.append((work, step))
            n_waiting += step
            if n_waiting > n_ahead:
                done, n_done = waiting.popleft()
                n_waiting -= n_done
                yield done.result()
    while waiting:
        yield waiting.popleft()[0].result()


def _decode(source: Source, start: int) -> Frames:
    part = slice(start, start + FRAMES_PER_TASK)
    rows, images, broken = [], [], []
    folder = str(source.crops.folder)
    for row, name in zip(source.rows[part].tolist(), source.crops.names[part], strict=True):
        try:
            images.append(read_image(f"{folder}/{name}"))
            rows.append(row)
        except DataError as error:
            broken.append((row, str(error)))
    return Frames(source, np.array(rows, dtype=np.int64), images, broken)


def decode_clip(source: Source) -> Frames:
    """All frames of a clip; rows after the last picture of a damaged file are broken."""
    assert isinstance(source.video, Clip)
    reason = f"{source.video.pictures} is cut off or damaged: there are no pictures in its last part."
    images: list[NDArray[np.uint8]] = []
    try:
        images = _clip_images(source.video)
    except DataError as error:
        reason = str(error)
    except Exception as error:  # FFmpeg and torch raise many types; one clip must not cost the others
        reason = f"{source.video.pictures} cannot be read ({error or type(error).__name__}). Replace it."
    rows = source.rows
    return Frames(source, rows[: len(images)], images, [(row, reason) for row in rows[len(images) :].tolist()])


def _clip_images(clip: Clip) -> list[NDArray[np.uint8]]:
    """A clip's frames, in the order of its rows; fewer if its file ends early."""
    if clip.file is None:
        images = read_image_tensor(clip.pictures)
        if len(images) != clip.n_frames:
            raise DataError(
                f"{clip.pictures} holds {len(images)} frames, and its name says {clip.n_frames}. Correct the name."
            )
        return [shrink(image, SHORTER_SIDE_PX) for image in images]
    span = probe_span(clip.file)
    times_s = [time_s for time_s in span.middles(clip.n_frames).tolist() if time_s < span.start_s + span.found_s]
    return [picture.image for picture in read_pictures_at(clip.file, times_s, SHORTER_SIDE_PX)]


class Batcher:
    """Gathers frames into batches, in the order in which they come."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._waiting: list[tuple[Source, int, NDArray[np.uint8]]] = []

    def add(self, frames: Frames) -> Iterator[FrameBatch]:
        """Take frames; give the batches that are full now."""
        for row, image in zip(frames.rows.tolist(), frames.images, strict=True):
            self._waiting.append((frames.source, row, image))
            if len(self._waiting) == self._batch_size:
                yield self._take()

    def rest(self) -> Iterator[FrameBatch]:
        """The last batch, not full."""
        if self._waiting:
            yield self._take()

    def _take(self) -> FrameBatch:
        by_size: dict[tuple[int, ...], list[tuple[Source, int, NDArray[np.uint8]]]] = {}
        for frame in self._waiting:
            by_size.setdefault(frame[2].shape, []).append(frame)
        self._waiting = []
        parts: list[tuple[Source, list[int]]] = []
        for source, row, _ in chain.from_iterable(by_size.values()):
            if not parts or parts[-1][0] is not source:
                parts.append((source, []))
            parts[-1][1].append(row)
        images = [np.stack([image for _, _, image in group]) for group in by_size.values()]
        return FrameBatch(images, [(source, np.array(rows, dtype=np.int64)) for source, rows in parts])
