"""A feature of many videos, read one after another: packed ones that are next to each other at once."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from abaw.store.feature_store import FeatureStore, StoredVideo, VideoFeature
from abaw.store.packed_rows import RowsInTurn
from abaw.store.plain_arrays import Block, PlainRows
from abaw.store.schema import check_no_shard_is_missing, is_outside, report_unreachable
from abaw.store.writer import QUALITY

Result = TypeVar("Result")


class VideosInTurn:
    """Reads a feature of some videos, by preference in their order, as `FeatureStore` does. Threads may read at the same time.

    What cannot be read here is left to the store: it says what is wrong, or reads a video where it is by now.

    Args:
        videos: names.
    """

    def __init__(self, store: FeatureStore, feature: str, videos: Iterable[str]) -> None:
        self.store, self.feature, self._path = store, feature, f"features/{feature}"
        self._packed = store.packs.look(self._path)
        alone = set(store.unpacked(self._path)) if self._packed else set()
        names = [name for name in videos if name in self._packed and name not in alone]
        self._rows = RowsInTurn(store.packs, self._path, self._packed, names)

    @cached_property
    def _qualities(self) -> RowsInTurn:
        names = [name for name in self._rows.names if self._packed.attrs(name).get(QUALITY) is True]
        return RowsInTurn(self.store.packs, self._path, self._packed, names, QUALITY)

    def read(self, video: str, into: NDArray | None = None) -> VideoFeature:
        """See `FeatureStore.read`; without `into`, the values are in memory that they share with those of others."""
        found = self._try(video, partial(self._read, video, into))
        return self.store.read(self.feature, video, into) if found is None else found

    def read_quality(self, video: str) -> NDArray[np.float32] | None:
        """See `FeatureStore.read_quality`."""
        found = self._try(video, lambda: self._quality(video)) if video in self._qualities else None
        return self.store.read_quality(self.feature, video) if found is None else found

    def stored_video(self, video: str) -> StoredVideo | None:
        """See `FeatureStore.stored_video`."""
        found = self._try(video, partial(self._stored_video, video))
        return self.store.stored_video(self.feature, video) if found is None else found

    def _try(self, video: str, read: Callable[[], Result]) -> Result | None:
        """What is read of a video; None if it is not read here."""
        if video not in self._rows:
            return None
        with report_unreachable(f"{self.store.path}/{self._path}/{video}"):
            try:
                return read()
            except Exception as error:  # foreign files may contain anything
                if is_outside(error):
                    raise
                return None

    def _read(self, video: str, into: NDArray | None) -> VideoFeature:
        stored, values = self._stored_video(video), self._rows.read(video)
        if values.shape != stored.rows.shape:
            raise ValueError("the array that it is packed in has changed")
        check_no_shard_is_missing(values)
        if into is not None:
            into[...] = values
        return VideoFeature(values if into is None else into, stored.present, stored.fps)

    def _quality(self, video: str) -> NDArray[np.float32]:
        quality = self._qualities.read(video)
        n_frames = self._packed[video].n_rows
        if quality.shape != (n_frames,) or quality.dtype != np.float32 or not np.isfinite(quality).all():
            raise ValueError("its quality is not a finite number for each frame")
        return quality

    def _stored_video(self, video: str) -> StoredVideo:
        stored = self.store.packed_video(self.feature, video, self._packed[video])
        rows = stored.rows
        return replace(stored, rows=_RowsInTurn(rows.array, rows.start, rows.stop, self._rows, video))


@dataclass(frozen=True)
class _RowsInTurn(PlainRows):
    """Rows of a video that are read together with those of others.

    Attributes:
        in_turn: reads them.
        video: its name.
    """

    in_turn: RowsInTurn
    video: str

    @property
    def n_blocks(self) -> int:
        """See `PlainRows`."""
        return 1

    def block(self, number: int) -> Block:
        """See `PlainRows`."""
        try:
            return self.in_turn.block(self.video)
        except ValueError:  # perhaps only rows next to them are damaged
            return self.in_one_block()
