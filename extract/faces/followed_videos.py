"""Videos whose faces are found while their files are decoded: a `FrameSource` without crops on a disk."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from abaw.core.clock import Clock
from abaw.core.errors import DataError, UsageError
from abaw.core.names import SIDES, composed
from abaw.core.records import BOXED, PREPARED
from abaw.datasets.dataset import Dataset
from abaw.datasets.folders import files_in, find_video_files
from abaw.datasets.frames import WHOLE, BrokenFrame, Frame
from abaw.datasets.layouts import look_through
from abaw.datasets.one_file import OneFile
from abaw.datasets.video_files import SUFFIXES, People
from abaw.extract.faces.detections import FaceDetector
from abaw.extract.faces.detector import DEFAULT_DETECTOR, create_detector
from abaw.extract.faces.face_identity import (
    FaceIdentity,
    absolute_identity,
    check_identity,
    create_identity,
    identity_key,
)
from abaw.extract.faces.following import FaceFollower, FacesOfFrame, FollowedFace
from abaw.extract.faces.given_faces import FacesInTable, WholePictures, has_landmarks, people_in_table
from abaw.extract.faces.kept_crops import KeepingFollower
from abaw.media.decoders import PROCESSOR, Decoder
from abaw.media.file_content import is_same_content
from abaw.media.frame_times import FrameTimes, read_times
from abaw.media.probe import stated_frames
from abaw.media.stamps import read_stamps

TRACK, WHOLE_PICTURES = "track", "whole"
MOST_PROBED = 64  # files whose headers are read to estimate the number of frames of all


class Follower(Protocol):
    """Goes through a video file once, see `FaceFollower`."""

    notes: list[str]
    cuts: list[int]
    n_by_processor: int

    def __iter__(self) -> Iterator[FacesOfFrame]:
        """The frames in order, with their faces by number."""

    def names(self, video: str) -> dict[int, str]:
        """The person of each number, once all frames were read; numbers without one are no people."""


@dataclass(frozen=True)
class FacesFrom:
    """Where the faces of videos come from.

    Attributes:
        where: "track" detects and follows them; "whole" takes whole pictures; else a table of faces, or a folder with a
            table `<video>.csv` for each video.
        detector: see `create_detector`; loaded when the first video needs it.
        device: of the detector.
        identity: what people are told apart by, see `create_identity`; empty for their position.
        keep: data folder where crops of faces that are followed are kept, see `KeepingFollower`; None keeps none.
    """

    where: str = TRACK
    detector: str = DEFAULT_DETECTOR
    device: str = "auto"
    identity: str = ""
    keep: Path | None = None

    def alignment(self, video: str) -> str:
        """See `FrameSource.alignment`; reads the first line of a table."""
        if self.where == WHOLE_PICTURES:
            return WHOLE
        table = self.table_of(video)
        return PREPARED if table is None or has_landmarks(table) else BOXED

    def absolute(self) -> "FacesFrom":
        """The same with absolute paths."""
        where = self.where if self.where in (TRACK, WHOLE_PICTURES) else str(Path(self.where).absolute())
        return replace(self, where=where, identity=absolute_identity(self.identity))

    @cached_property
    def _loaded(self) -> FaceDetector:
        return create_detector(self.detector, self.device)

    @cached_property
    def _identity(self) -> FaceIdentity | None:
        return create_identity(self.identity, self.device)

    def table_of(self, video: str) -> Path | None:
        """The table of a video's faces; None without tables."""
        if self.where in (TRACK, WHOLE_PICTURES):
            return None
        path = Path(self.where)
        return path / f"{video}.csv" if path.is_dir() else path

    def follower(self, video: str, file: Path, decoder: Decoder) -> Follower:
        """A follower through a video file.

        Raises:
            CheckpointError: weights of the detector or of the identity are missing.
        """
        table = self.table_of(video)
        if table is not None:
            return FacesInTable(file, table, decoder)
        if self.where == WHOLE_PICTURES:
            return WholePictures(file, decoder)
        if self.keep is None:
            return FaceFollower(file, self._loaded, ahead=True, identity=self._identity, decoder=decoder)
        key = identity_key(self.identity)
        return KeepingFollower(self.keep, file, video, self.detector, key, self._loaded, self._identity, decoder)

    def check(self) -> None:
        """Raise a UsageError if there is no such table or folder, or no such identity; loads no network."""
        check_identity(self.identity)
        if self.table_of("") is not None and not Path(self.where).exists():
            raise UsageError(
                f"--faces {self.where} is neither a file nor a folder. Give track, whole, a table of faces, or the folder faces/ "
                "that `abaw prepare` writes."
            )

    def load(self) -> None:
        """Load the networks that are needed; raises like `create_detector` and `create_identity`."""
        if self.where == TRACK:
            _ = self._loaded, self._identity

    def possible_names(self, video: str) -> tuple[str, ...]:
        """Names of which the first person of a video, from left to right, has one."""
        table = self.table_of(video)
        if table is not None and table.is_file():
            return people_in_table(table, video)
        return (video, f"{video}{SIDES[0]}", f"{video}_1")

    def digest(self, video: str) -> str:
        """Identifies what the faces of a video depend on besides its file."""
        table = self.table_of(video)
        if table is None:
            identity = f" {identity_key(self.identity)}" if self.identity else ""
            return self.where if self.where == WHOLE_PICTURES else f"{self.where} {self.detector}{identity}"
        try:
            return f"table {hashlib.sha256(table.read_bytes()).hexdigest()}"
        except OSError:
            return "no table"


class PicturesRead(NamedTuple):
    """Pictures that were followed, and the faces in them: rows and faces of each number."""

    n_pictures: int
    faces: dict[int, tuple[list[int], list[FollowedFace]]]


@dataclass(frozen=True)
class FollowedVideo:
    """A `Video` without crops, whose faces come from its file.

    Attributes:
        n_estimated: number of frames, for plans and progress.
    """

    name: str
    path: Path
    faces: FacesFrom
    n_estimated: int = 0

    @property
    def file(self) -> Path:
        """The video file."""
        return self.path

    def open(self, fps: float | None, people: People) -> "FollowedFrames":
        """Its frames; nothing is decoded yet."""
        return FollowedFrames(self.name, self.path, self.faces, self.n_estimated)


@dataclass(frozen=True)
class FollowedFrames(OneFile):
    """The frames of a video, with the faces in them.

    Attributes:
        video: name of the video, which may have several people; `name` for all of them together.
        all_people: names of the people of the video, of which `name` is one; None while they are not known.
        decoder: of the pictures.
    """

    name: str
    path: Path
    faces: FacesFrom
    n_estimated: int = 0
    video: str = ""
    all_people: tuple[str, ...] | None = None
    decoder: Decoder = PROCESSOR

    @property
    def file(self) -> Path:
        """The video file."""
        return self.path

    @property
    def alignment(self) -> str:
        """See `FacesFrom.alignment`."""
        return self.faces.alignment(self.video or self.name)

    @property
    def rows(self) -> NDArray[np.int64]:
        """All rows of the file."""
        return np.arange(self.clock().n_frames, dtype=np.int64)

    def size(self) -> int:
        """An estimate of the number of frames, which needs no decoding."""
        return self.n_estimated

    def people(self) -> tuple[str, ...] | None:
        """None: known only after reading everything."""
        return None

    def possible_names(self) -> tuple[str, ...]:
        """Names of which the store has one if it has the people of the video."""
        return self.faces.possible_names(self.name)

    def as_person(self, name: str, everybody: tuple[str, ...]) -> "FollowedFrames":
        """The same frames as those of one person."""
        return replace(self, name=name, video=self.video or self.name, all_people=everybody)

    def _find_digest(self) -> str:
        """sha256 over name and size of the file, and what the faces depend on."""
        faces = self.faces.digest(self.video or self.name)
        return hashlib.sha256(f"video {self.path.name} {self.path.stat().st_size} {faces}".encode()).hexdigest()

    def _read_clock(self) -> Clock:
        """The clock of the file as it decodes: known once it was followed, else it is decoded."""
        stamps = read_stamps(self.path)
        return Clock(stamps.fps, len(stamps.shown), "; ".join(stamps.notes(self.path.name)), is_decoded=True)

    def times(self) -> FrameTimes:
        """When its pictures are shown."""
        return read_times(self.path, self.clock().n_frames)

    def follower(self) -> Follower:
        """See `FacesFrom.follower`."""
        self.content()  # of the file that is read now, not of one that replaces it meanwhile
        return self.faces.follower(self.video or self.name, self.path, self.decoder)

    def read(self, start: int, stop: int) -> Iterator[Frame | BrokenFrame]:
        """Decode all frames, and yield the faces of those in `rows[start:stop]`; `person` is the number of a face."""
        for frame in self.follower():
            if start <= frame.number < stop:
                for number, face in frame.faces.items():
                    yield Frame(frame.number, face.crop, str(number))


def read_in_pieces(follower: Follower, n_pictures: int) -> Iterator[PicturesRead]:
    """The faces of a video in pieces of some pictures."""
    faces: dict[int, tuple[list[int], list[FollowedFace]]] = {}
    n_read = 0
    for frame in follower:
        n_read += 1
        for number, face in frame.faces.items():
            rows, followed = faces.setdefault(number, ([], []))
            rows.append(frame.number)
            followed.append(face)
        if n_read == n_pictures:
            yield PicturesRead(n_read, faces)
            faces, n_read = {}, 0
    if n_read:
        yield PicturesRead(n_read, faces)


def open_videos(root: Path, faces: FacesFrom, fps: float | None = None) -> Dataset:
    """The video files of a data folder: those of its layout, or those in the folder itself; and its labels.

    Raises:
        DataError: no such folder, no video files, or two of one name.
    """
    known = look_through(root, fps)
    files = find_video_files(root)
    for file in files_in(root, SUFFIXES):
        other = files.setdefault(composed(file.stem), file)
        if other != file and not is_same_content(other, file):  # `prepare` links files into videos/, or copies them
            raise DataError(f"There are two files of video {file.stem!r}: {other} and {file}. Rename one.")
    files = {name: file for name, file in files.items() if not file.is_dir()}
    if not files:
        raise DataError(
            f"{root} has no video files ({', '.join(SUFFIXES[:6])} ...), neither in the folder itself nor in videos/ or batch1/. "
            "Choose another with --data, or leave out --from for a folder of crops."
        )
    sizes = _estimates(list(files.values()))
    videos = tuple(
        FollowedVideo(name, file, faces, size) for (name, file), size in zip(files.items(), sizes, strict=True)
    )
    return replace(known, videos=videos, companions=())


def _estimates(files: list[Path]) -> list[int]:
    """About the number of frames of each file: from its header, or from its size where there are many."""
    if len(files) <= MOST_PROBED:
        return [_stated(file) for file in files]
    sizes = [_size_of(file) for file in files]
    sample = range(0, len(files), len(files) // MOST_PROBED)
    rates = [_stated(files[number]) / sizes[number] for number in sample if sizes[number]]
    rate = median(rates) if rates else 0.0
    return [max(1, round(size * rate)) for size in sizes]


def _stated(file: Path) -> int:
    try:
        return stated_frames(file)
    except DataError:  # reported when it is read
        return 1


def _size_of(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0
