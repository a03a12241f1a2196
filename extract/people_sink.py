"""Writing the features of people who have names only once their video was read to its end."""

import tempfile
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from abaw.core.progress import Summary
from abaw.datasets.frames import FrameSource
from abaw.extract.faces.followed_videos import FollowedFrames, Follower
from abaw.extract.feature import Feature
from abaw.extract.follow_ahead import FollowedPart, FollowedTrack
from abaw.extract.people_in_store import PEOPLE, VIDEO, earlier_people
from abaw.extract.reader import FrameOrigin
from abaw.extract.sink import FeatureSink
from abaw.store import FeatureStore

MEMORY_BYTES = 2**24  # of one feature of one video; more goes into a temporary file
ROWS_AT_ONCE = 4096
READ_TWICE = "its pictures are not in the order of their times, so it was read twice"


@dataclass
class _Spool:
    """The features of a video until its people have names.

    Attributes:
        source: the video.
        values: for each feature, (rows, *shape) float32 in the order of arrival.
        numbers, rows: of the faces, in that order.
        qualities: number, row and quality of each face that was read, one after the other.
        cuts: see `FaceFollower.cuts`.
        n_expected: rows that will arrive; None before the end of the video.
        n_by_processor: see `Follower`.
        is_second: the video is read for the second time, see `abaw.media.pictures.OutOfOrderError`.
    """

    source: FollowedFrames
    values: list[IO[bytes]]
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    # not arrays of each part: small blocks that stay would leave holes between the pictures that pass through
    numbers: "array[int]" = field(default_factory=lambda: array("q"))
    rows: "array[int]" = field(default_factory=lambda: array("q"))
    qualities: "array[float]" = field(default_factory=lambda: array("d"))
    cuts: list[int] = field(default_factory=list)
    n_rows: int = 0
    n_expected: int | None = None
    names: dict[int, str] = field(default_factory=dict)
    n_by_processor: int = 0
    is_second: bool = False

    def close(self) -> None:
        for file in self.values:
            file.close()


class PeopleSink(FeatureSink):
    """A `FeatureSink` for videos whose faces are followed: people are stored when their video has ended.

    Features wait in temporary files, so that memory does not grow with the length of a video.
    """

    def __init__(self, store: FeatureStore, features: Sequence[Feature], summary: Summary) -> None:
        super().__init__(store, features, summary)
        self._spools: dict[str, _Spool] = {}
        self._n_sent: dict[str, int] = {}  # crops of each video that went to the networks

    def count(self, part: FollowedPart) -> None:
        """Note a part that was read, and the end of its video."""
        name = part.source.name
        if part.begins_again:
            self._summary.n_frames -= self._n_sent.pop(name, 0)
            self._do(part.source, self._begin_again)
        self._n_sent[name] = self._n_sent.get(name, 0) + len(part.rows)
        if isinstance(part.source, FollowedTrack):
            numbers = np.full(len(part.rows), part.source.number)
            self._do(part.source, self._note_quality, np.stack([numbers, part.rows, part.qualities], axis=1))
        if part.failure:
            self._do(part.source, self._fail_video, part.failure)
        elif part.ended is not None:
            self._do(part.source, self._end, part.ended, self._n_sent.pop(name))

    def close(self) -> None:
        """Wait for the thread; what belongs to incomplete videos is dropped."""
        super().close()
        for spool in self._spools.values():
            spool.close()

    def _open(self, source: FrameSource) -> None:
        assert isinstance(source, FollowedFrames), "sources of this sink are videos"
        files: list[IO[bytes]] = [
            tempfile.SpooledTemporaryFile(MEMORY_BYTES)  # noqa: SIM115  closed when the video is stored
            for _ in self._features
        ]
        self._spools[source.name] = _Spool(source, files)

    def _begin_again(self, source: FrameSource) -> None:
        self._spools[source.name].close()
        self._open(source)
        self._spools[source.name].is_second = True

    def _write(self, source: FrameOrigin, rows: NDArray, values: list[NDArray]) -> None:
        assert isinstance(source, FollowedTrack), "each part of a batch is of one face"
        spool = self._spools[source.name]
        if source.source is not spool.source:  # of a reading that is void
            return
        for file, feature_values in zip(spool.values, values, strict=True):
            file.write(np.ascontiguousarray(feature_values, dtype=np.float32).data)
        spool.shapes = [feature_values.shape[1:] for feature_values in values]
        spool.numbers.extend([source.number] * len(rows))
        spool.rows.extend(rows.tolist())
        spool.n_rows += len(rows)

    def _fail_video(self, source: FrameOrigin, reason: str) -> None:
        self._fail(source.name, reason)

    def _fail(self, name: str, reason: str) -> None:
        super()._fail(name, reason)
        if spool := self._spools.pop(name, None):
            spool.close()

    def _note_quality(self, source: FrameOrigin, qualities: NDArray[np.float64]) -> None:
        self._spools[source.name].qualities.extend(qualities.ravel().tolist())

    def _end(self, source: FrameOrigin, follower: Follower, n_expected: int) -> None:
        spool = self._spools[source.name]
        spool.cuts = follower.cuts
        spool.names, spool.n_expected = follower.names(source.name), n_expected
        spool.n_by_processor = follower.n_by_processor
        notes = [READ_TWICE] if spool.is_second else []
        self._summary.warnings += [f"{source.name}: {note}" for note in [*notes, *follower.notes]]

    def _finish_if_ready(self, video: str) -> None:
        spool = self._spools.get(video)
        if spool is not None and spool.n_expected == spool.n_rows:
            self._store_people(video, spool)
            spool.close()
            del self._spools[video]
            self._summary.done.append(video)

    def _store_people(self, video: str, spool: _Spool) -> None:
        names = tuple(dict.fromkeys(spool.names.values()))
        if not names:
            self._summary.warnings.append(f"{video}: no face was found in it")
        clock, content = spool.source.clock(), spool.source.content()
        attrs: dict[str, Any] = {**clock.attrs, "source": spool.source.digest(), VIDEO: video, PEOPLE: list(names)}
        attrs |= {"content": content} if content else {}
        attrs |= {"cuts": [number + 1 for number in spool.cuts]} if spool.cuts else {}
        attrs |= {"by_processor": spool.n_by_processor} if spool.n_by_processor else {}
        attrs |= {"read_twice": True} if spool.is_second else {}
        numbers, rows = np.array(spool.numbers, dtype=np.int64), np.array(spool.rows, dtype=np.int64)
        owners = np.array([names.index(spool.names[n]) if n in spool.names else -1 for n in numbers.tolist()], np.int64)
        # a video without faces is stored without a row, so that it is not read again
        gone = {
            feature.name: earlier_people(self._store, feature.name, spool.source, names or (video,))
            for feature in self._features
        }
        writers = [
            self._writers_of(name, clock.n_frames, rows[owners == number], attrs)
            for number, name in enumerate(names or (video,))
        ]
        for position, file in enumerate(spool.values):
            file.seek(0)
            for start in range(0, len(rows), ROWS_AT_ONCE):
                part = slice(start, start + ROWS_AT_ONCE)
                shape = (len(rows[part]), *spool.shapes[position])
                values = np.frombuffer(file.read(prod(shape) * 4), dtype=np.float32).reshape(shape)
                for number, of_person in enumerate(writers):
                    own = owners[part] == number
                    if own.any():
                        of_person[position].write(rows[part][own], values[own])
        for name, of_person in zip(names or (video,), writers, strict=True):
            quality = _quality_of(name, spool, clock.n_frames)
            for writer in of_person:
                writer.finish(allow_empty=not names, quality=quality)
        for feature, people in gone.items():
            for name in people:
                self._store.drop(f"features/{feature}/{name}")


def _quality_of(person: str, spool: _Spool, n_frames: int) -> NDArray[np.float32] | None:
    """(frames,) the quality of a person's crops, 0 where there is none; None for whole pictures."""
    numbers, rows, qualities = np.array(spool.qualities, dtype=np.float64).reshape(-1, 3).T
    own = np.isin(numbers, [number for number, name in spool.names.items() if name == person])
    if not own.any() or np.isnan(qualities[own]).any():
        return None
    quality = np.zeros(n_frames, dtype=np.float32)
    quality[rows[own].astype(np.int64)] = qualities[own]
    return quality
