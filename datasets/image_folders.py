"""Folders of images as sources of frames: face crops named by frame number, and images without a time axis."""

import hashlib
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from abaw.core.clock import Clock
from abaw.core.errors import DataError
from abaw.core.names import composed
from abaw.core.read_ahead import map_ahead
from abaw.core.records import GIVEN, PREPARED
from abaw.datasets.crops import (
    Crops,
    count_crops,
    count_stills,
    describe_no_crops,
    first_folder,
    list_crops,
    list_some_stills,
    list_stills,
)
from abaw.datasets.frames import WHOLE, BrokenFrame, Frame, Remark
from abaw.datasets.video_files import People
from abaw.media.decoders import PROCESSOR, Decoder
from abaw.media.file_content import hash_of_sample
from abaw.media.frame_times import FrameTimes, read_times, regular_times
from abaw.media.links import read_bytes
from abaw.media.probe import DEFAULT_FPS
from abaw.media.stamps import read_stamps

THREADS = 8  # that read crops without decoding them: opening a file takes long over a network
STILLS_FPS = 1.0  # by definition: images without a time axis have no frame rate, but the store needs a number


@dataclass(frozen=True)
class CropFrames:
    """The face crops of one person in one video: a `FrameSource`.

    Attributes:
        folder: holds the crops.
        file: the video file that they were cut from; None if missing.
        fps: frame rate without a video file.
        known_people: of the dataset.
        decoder: of the crops.
    """

    name: str
    folder: Path
    file: Path | None
    fps: float | None
    known_people: People
    decoder: Decoder = PROCESSOR

    divisible = True
    has_time_axis = True

    @cached_property
    def crops(self) -> Crops:
        """The listing, made on first use."""
        return list_crops(self.folder)

    @property
    def alignment(self) -> str:
        """`PREPARED` if `abaw prepare` made these crops, else `GIVEN`."""
        return PREPARED if self.known_people.is_prepared(self.name) else GIVEN

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """See `FrameSource`."""
        return self.crops.numbers - 1

    def size(self) -> int:
        """See `FrameSource`; takes a third of the time of listing, and over a network far less."""
        return count_crops(self.folder)

    def people(self) -> tuple[str, ...]:
        """One: the name."""
        return (self.name,)

    def digest(self) -> str:
        """sha256 over the crops and the source of the clock: the size of the video file, or `fps`."""
        return hashlib.sha256(f"{self.crops.digest} {self._clock_source}".encode()).hexdigest()

    @cached_property
    def _clock_source(self) -> float | None:
        return self.file.stat().st_size if self.file is not None else self.fps

    def content(self) -> str:
        """When the crops were last changed, a hash of their bytes as they were read, and one of `sample_of` the video."""
        unread = np.flatnonzero(self._sums < 0).tolist()
        for index, content in zip(unread, self._contents(unread), strict=True):
            self._sums[index] = zlib.crc32(content)
        return f"{self.crops.times} {_hash_of_sums(self._sums)} {self._clock_sample}"

    def has_content(self, content: str) -> bool:
        """See `FrameSource`; the crops are read only if one was changed or moved since then, or all were copied."""
        parts = content.split(" ")
        if len(parts) != 3:
            return True
        if self._clock_sample != parts[2]:
            return False
        if self.crops.times == parts[0]:
            return True
        sums = [zlib.crc32(content) for content in self._contents(range(len(self.crops.names)))]
        return _hash_of_sums(np.array(sums, dtype=np.int64)) == parts[1]

    @cached_property
    def _sums(self) -> NDArray[np.int64]:
        """(crops,) CRC-32 of each crop; -1 until it is read."""
        return np.full(len(self.crops.names), -1, dtype=np.int64)

    def _contents(self, indices: Sequence[int]) -> Iterator[bytes]:
        """The bytes of some crops; none for one that cannot be read."""
        files = [f"{self.folder}/{self.crops.names[index]}" for index in indices]
        return map_ahead(_bytes_of, files, THREADS)

    @cached_property
    def _clock_sample(self) -> str:
        return hash_of_sample(self.file) if self.file is not None else "-"

    def clock(self) -> Clock:
        """See `FrameSource`."""
        return self._clock

    @cached_property
    def _clock(self) -> Clock:
        if self.crops.fault:
            raise DataError(self.crops.fault)
        return self._make_clock()

    def _make_clock(self) -> Clock:
        """The clock of the video file; without one, a clock that ends with the last crop."""
        last_crop = int(self.crops.numbers[-1]) if len(self.crops.numbers) else 0
        reason = "no video file"
        if self.file is not None:
            try:
                return self._clock_of_file(self.file, last_crop)
            except DataError as error:
                reason = str(error)
        fps = self.fps or DEFAULT_FPS
        assumed = f"{fps:g} fps " + ("given with --fps" if self.fps else "assumed; set it with --fps")
        return Clock(fps, last_crop, f"{reason}: {assumed}", is_guessed=True)

    def _clock_of_file(self, file: Path, last_crop: int) -> Clock:
        """The clock of a video whose frames are the pictures of a file, as they decode."""
        stamps = read_stamps(file)
        n_pictures = len(stamps.shown)
        notes = stamps.notes(file.name)
        if stamps.n_lost and self.name not in self.known_people.of(composed(file.stem)):
            # `abaw prepare` numbers frames in the same way; other programs may not
            notes.append(stamps.doubt(file.name))
        if last_crop > n_pictures + 1:
            n_after = last_crop - n_pictures
            notes.append(f"crops continue for {n_after} frames after the end of {file.name}: is it the right video?")
        return Clock(stamps.fps, max(n_pictures, last_crop), "; ".join(notes), is_decoded=True)

    def times(self) -> FrameTimes:
        """When the pictures of the video file are shown; a constant rate if this is unknown."""
        clock = self.clock()
        if self.file is None or clock.is_guessed:
            return regular_times(clock.n_frames, clock.fps)
        return read_times(self.file, clock.n_frames)

    def read(self, start: int, stop: int) -> Iterator[Frame | BrokenFrame]:
        """See `FrameSource`."""
        files = [f"{self.folder}/{name}" for name in self.crops.names[start:stop]]
        contents = [self._content_of(index, file) for index, file in enumerate(files, start)]
        read = [(file, content) for file, content in zip(files, contents, strict=True) if isinstance(content, bytes)]
        decoded = iter(self.decoder.images([file for file, _ in read], [content for _, content in read]))
        for row, content in zip(self.rows[start:stop].tolist(), contents, strict=True):
            image = next(decoded) if isinstance(content, bytes) else content
            if isinstance(image, DataError):
                yield BrokenFrame(row, str(image))
            else:
                yield Frame(row, image.image, by_processor=image.by_processor)

    def _content_of(self, index: int, file: str) -> bytes | DataError:
        """The bytes of a crop, whose sum is kept."""
        try:
            content = read_bytes(file)
        except DataError as error:
            return error
        self._sums[index] = zlib.crc32(content)
        return content

    def file_of(self, row: int) -> Path | None:
        """The crop of a row."""
        index = int(np.searchsorted(self.rows, row))
        if index == len(self.rows) or self.rows[index] != row:
            return None
        return self.folder / self.crops.names[index]

    def remarks(self) -> list[Remark]:
        """Files that are not crops; an error if the crops seem to be one level further down."""
        remarks = []
        if ignored := self.crops.ignored:
            remarks.append(Remark(self.name, f"{len(ignored)} files are not crops, such as {ignored[0]}", False))
        if not len(self.crops.numbers) and first_folder(self.crops):
            remarks.append(Remark(self.name, self.why_empty()))
        return remarks

    def why_empty(self) -> str:
        """See `FrameSource`."""
        return describe_no_crops(self.crops)


def _bytes_of(file: str) -> bytes:
    try:
        return read_bytes(file)
    except DataError:
        return b""


def _hash_of_sums(sums: NDArray[np.int64]) -> str:
    return hashlib.sha256(sums.tobytes()).hexdigest()


@dataclass(frozen=True)
class StillFrames(CropFrames):
    """Images without a time axis, of any names: row i is the i-th one in natural order.

    Attributes:
        names: of the images that count; empty for all in the folder.
    """

    names: tuple[str, ...] = ()

    has_time_axis = False

    @cached_property
    def crops(self) -> Crops:
        """The listing, made on first use."""
        return list_some_stills(self.folder, self.names) if self.names else list_stills(self.folder)

    @property
    def alignment(self) -> str:
        """`WHOLE`."""
        return WHOLE

    def size(self) -> int:
        """See `FrameSource`."""
        return len(self.names) or count_stills(self.folder)

    @cached_property
    def _clock_source(self) -> float | None:
        return STILLS_FPS

    def _make_clock(self) -> Clock:
        return Clock(STILLS_FPS, len(self.crops.numbers))


@dataclass(frozen=True)
class CropFolder:
    """A `Video` of face crops: one person in one video.

    Attributes:
        name: unique in the dataset.
        path: the folder of crops.
        file: the video file that they were cut from; None if missing.
    """

    name: str
    path: Path
    file: Path | None

    def open(self, fps: float | None, people: People) -> CropFrames:
        """Its crops; nothing is listed yet."""
        return CropFrames(self.name, self.path, self.file, fps, people)


@dataclass(frozen=True)
class Stills:
    """A `Video` of images without a time axis, such as those of one class.

    Attributes:
        name: unique in the dataset.
        path: the folder of images.
        file: always None.
        images: names of those that count, in natural order; empty for all in the folder.
    """

    name: str
    path: Path
    file: None = None
    images: tuple[str, ...] = ()

    def open(self, fps: float | None, people: People) -> StillFrames:
        """Its images; nothing is listed yet."""
        return StillFrames(self.name, self.path, None, fps, people, names=self.images)
