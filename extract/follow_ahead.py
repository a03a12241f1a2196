"""Following faces through videos ahead of the networks: some videos at once, each in a thread of its own."""

import queue
import threading
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field, replace
from os import cpu_count

import numpy as np
import torch

from abaw.backbones.extractor import Backbone
from abaw.core.errors import UsageError
from abaw.core.system_errors import in_words
from abaw.datasets.frames import FrameSource
from abaw.extract.faces.followed_videos import FollowedFrames, Follower, read_in_pieces
from abaw.extract.reader import DecodedFrames
from abaw.media.pictures import OutOfOrderError

PICTURES_PER_PIECE = 32
PIECES_AHEAD = 4
CORES_PER_VIDEO = 4  # decoding and detection use several
MOST_VIDEOS = 8
LIGHT = 1_000_000  # parameters
WAIT_S = 0.1  # between two looks at whether the networks still want frames


@dataclass(frozen=True, eq=False)
class FollowedTrack:
    """One of the faces that were followed through a video: where its crops come from.

    Attributes:
        source: the video.
        number: see `Follower.names`.
    """

    source: FollowedFrames
    number: int

    @property
    def name(self) -> str:
        """Of the video."""
        return self.source.name


@dataclass(frozen=True)
class FollowedPart(DecodedFrames):
    """Crops of one face, or nothing but news about a video.

    Attributes:
        n_pictures: of the video that were read for it.
        qualities: of the crops, see `FollowedFace.quality`.
        ended: the follower that has read the video to its end.
        failure: why the video could not be read.
        begins_again: all parts of the video before this one are void.
    """

    n_pictures: int = 0
    ended: Follower | None = None
    failure: str = ""
    qualities: tuple[float, ...] = ()
    begins_again: bool = False


@dataclass
class _Shared:
    """What the threads have in common."""

    sources: Iterator[FrameSource]
    parts: "queue.Queue[FollowedPart | BaseException | None]" = field(default_factory=lambda: queue.Queue(PIECES_AHEAD))
    next_one: threading.Lock = field(default_factory=threading.Lock)
    is_over: threading.Event = field(default_factory=threading.Event)

    def put(self, part: FollowedPart | BaseException | None) -> bool:
        """Hand a part over; False if nobody wants it any more."""
        while not self.is_over.is_set():
            try:
                self.parts.put(part, timeout=WAIT_S)
            except queue.Full:
                continue
            return True
        return False


def are_light(backbones: Iterable[Backbone]) -> bool:
    """True for networks on the processor that take less time than finding the faces, which has threads of its own."""
    return all(
        backbone.device.type == "cpu" and sum(one.numel() for one in backbone.network.parameters()) < LIGHT
        for backbone in backbones
    )


def follow_ahead(sources: Iterable[FrameSource]) -> Generator[FollowedPart, None, None]:
    """The faces of videos, in the order of their frames; videos that are followed at the same time take turns.

    Errors of single videos are among the parts; others are raised.
    """
    shared = _Shared(iter(sources))
    n_threads = max(1, min(MOST_VIDEOS, (cpu_count() or 1) // CORES_PER_VIDEO))
    threads = [threading.Thread(target=_follow_all, args=(shared,), daemon=True) for _ in range(n_threads)]
    for thread in threads:
        thread.start()
    n_running = n_threads
    try:
        while n_running:
            part = shared.parts.get()
            if part is None:
                n_running -= 1
            elif isinstance(part, BaseException):
                raise part
            else:
                yield part
    finally:
        shared.is_over.set()
        for thread in threads:
            thread.join()


def _follow_all(shared: _Shared) -> None:
    try:
        while True:
            with shared.next_one:
                source = next(shared.sources, None)
            if source is None or not _follow(source, shared):
                break
    except BaseException as error:
        shared.put(error)
    shared.put(None)


def _follow(source: FrameSource, shared: _Shared) -> bool:
    """Hand over the faces of a video; False if nobody wants more."""
    assert isinstance(source, FollowedFrames), "sources of this extraction are videos"
    try:
        try:
            return _follow_once(source, shared)
        except OutOfOrderError:  # people depend on the times, which are known now
            source = replace(source)
            return shared.put(replace(_part(source), begins_again=True)) and _follow_once(source, shared)
    except (UsageError, MemoryError, torch.OutOfMemoryError, torch.AcceleratorError):
        raise  # every video would fail
    except Exception as error:  # FFmpeg and torch raise many types; one video must not cost the others
        return shared.put(_part(source, failure=in_words(error)))


def _follow_once(source: FollowedFrames, shared: _Shared) -> bool:
    """Hand over the faces of a video; False if nobody wants more; raises like `read_pictures`."""
    follower, tracks = source.follower(), dict[int, FollowedTrack]()
    for piece in read_in_pieces(follower, PICTURES_PER_PIECE):
        if not shared.put(_part(source, n_pictures=piece.n_pictures)):
            return False
        for number, (rows, faces) in piece.faces.items():
            track = tracks.setdefault(number, FollowedTrack(source, number))
            crops = [face.crop for face in faces]
            part = FollowedPart(track, np.array(rows, dtype=np.int64), crops, [])
            if not shared.put(replace(part, qualities=tuple(face.quality() for face in faces))):
                return False
    return shared.put(_part(source, ended=follower))


def _part(
    source: FollowedFrames, n_pictures: int = 0, ended: Follower | None = None, failure: str = ""
) -> FollowedPart:
    """A part without crops."""
    n_by_processor = ended.n_by_processor if ended is not None else 0
    return FollowedPart(source, np.zeros(0, dtype=np.int64), [], [], n_by_processor, n_pictures, ended, failure)
