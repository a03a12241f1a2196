"""Reading frames ahead of the model: videos are decoded in threads and share batches."""

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from abaw.core.read_ahead import map_ahead
from abaw.datasets.frames import BrokenFrame, FrameSource

FRAMES_PER_PIECE = 32  # decoded by one thread in one go
BATCHES_AHEAD = 3


class FrameOrigin(Protocol):
    """Where frames come from: a `FrameSource`, or one of the faces in it."""

    @property
    def name(self) -> str:
        """Name of the video."""


FrameOfVideo = tuple[FrameOrigin, int, NDArray[np.uint8]]  # with its row


@dataclass(frozen=True)
class FrameRange:
    """Frames of one video that one thread reads: those of `source.rows[start:stop]`."""

    source: FrameSource
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def read(self) -> "DecodedFrames":
        """Decode them."""
        rows, images, broken, n_by_processor = [], [], [], 0
        for frame in self.source.read(self.start, self.stop):
            if isinstance(frame, BrokenFrame):
                broken.append(frame)
            else:
                rows.append(frame.row)
                images.append(frame.image)
                n_by_processor += frame.by_processor
        return DecodedFrames(self.source, np.array(rows, dtype=np.int64), images, broken, n_by_processor)


@dataclass(frozen=True)
class DecodedFrames:
    """Some frames of one video: `images` of `rows`, and those that cannot be read.

    Attributes:
        n_by_processor: images that the processor decoded, although another decoder was asked for.
    """

    source: FrameOrigin
    rows: NDArray[np.int64]
    images: list[NDArray[np.uint8]]
    broken: list[BrokenFrame]
    n_by_processor: int = 0


@dataclass(frozen=True)
class FrameBatch:
    """Frames of one or more videos, grouped by image size.

    Attributes:
        images: for each image size, (height, width, 3) uint8 RGB images.
        parts: the videos in the order of the images, with their rows.
    """

    images: list[list[NDArray[np.uint8]]]
    parts: list[tuple[FrameOrigin, NDArray[np.int64]]]

    @classmethod
    def of(cls, frames: Iterable[FrameOfVideo]) -> "FrameBatch":
        """A batch of frames, grouped by image size in the order in which the sizes come."""
        by_size: dict[tuple[int, ...], list[FrameOfVideo]] = {}
        for frame in frames:
            by_size.setdefault(frame[2].shape, []).append(frame)
        parts: list[tuple[FrameOrigin, list[int]]] = []
        for source, row, _ in chain.from_iterable(by_size.values()):
            if not parts or parts[-1][0] is not source:
                parts.append((source, []))
            parts[-1][1].append(row)
        images = [[image for _, _, image in group] for group in by_size.values()]
        return cls(images, [(source, np.array(rows, dtype=np.int64)) for source, rows in parts])

    @property
    def n_frames(self) -> int:
        """Frames of all sizes."""
        return sum(map(len, self.images))

    def split(self, n_frames: int) -> "list[FrameBatch]":
        """The same frames, at most `n_frames` in a batch."""
        if self.n_frames <= n_frames:
            return [self]
        owners = [(source, row) for source, rows in self.parts for row in rows.tolist()]
        frames = [(*owner, image) for owner, image in zip(owners, chain.from_iterable(self.images), strict=True)]
        return [FrameBatch.of(frames[start : start + n_frames]) for start in range(0, len(frames), n_frames)]


def read_frames(sources: Iterable[FrameSource], n_threads: int, n_ahead: int) -> Generator[DecodedFrames, None, None]:
    """Decode the frames of all sources in order, about `n_ahead` frames before they are asked for."""
    return map_ahead(FrameRange.read, pieces_of(sources), n_threads, n_ahead, size=len)


def pieces_of(sources: Iterable[FrameSource]) -> Iterator[FrameRange]:
    """The frames of all sources in pieces of `FRAMES_PER_PIECE`; in one piece where a source is not divisible."""
    for source in sources:
        n_frames = len(source.rows)
        step = FRAMES_PER_PIECE if source.divisible else max(1, n_frames)
        for start in range(0, n_frames, step):
            yield FrameRange(source, start, min(start + step, n_frames))


class Batcher:
    """Collects frames into batches, in the order of their arrival."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._waiting: list[FrameOfVideo] = []

    def add(self, frames: DecodedFrames) -> Iterator[FrameBatch]:
        """Add frames; yield the batches that are full."""
        for row, image in zip(frames.rows.tolist(), frames.images, strict=True):
            self._waiting.append((frames.source, row, image))
            if len(self._waiting) == self._batch_size:
                yield self._take()

    def rest(self) -> Iterator[FrameBatch]:
        """Yield the last batch, which is not full."""
        if self._waiting:
            yield self._take()

    def _take(self) -> FrameBatch:
        batch, self._waiting = FrameBatch.of(self._waiting), []
        return batch
