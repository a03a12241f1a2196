"""Pictures of a data folder by video and row, to be shown next to predictions."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from abaw.core.errors import DataError
from abaw.datasets.dataset import Dataset
from abaw.datasets.frames import FrameSource
from abaw.datasets.layouts import open_dataset
from abaw.media.images import read_image

FaceOf = Callable[[str, int], NDArray[np.uint8] | None]  # (height, width, 3) RGB picture of a video's row


class Faces:
    """Face crops (or images) of the videos of a dataset; a folder is listed on first use.

    Args:
        dataset: clips, whose frames are not files of their own, have no pictures here.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._videos = {video.name: video for video in dataset.videos}
        self._frames = lru_cache(maxsize=64)(self._open)

    def read(self, video: str, row: int) -> NDArray[np.uint8] | None:
        """(height, width, 3) RGB picture of a video's row; None if it is missing or damaged."""
        file = self.file(video, row)
        try:
            return read_image(file) if file is not None else None
        except DataError:
            return None

    def file(self, video: str, row: int) -> Path | None:
        """File of a video's row; None if it is missing."""
        frames = self._frames(video)
        try:
            return frames.file_of(row) if frames is not None else None
        except OSError:  # a label without a folder
            return None

    def _open(self, video: str) -> FrameSource | None:
        return self._dataset.open(self._videos[video]) if video in self._videos else None


def open_faces(data: Path | None) -> Faces | None:
    """The pictures of a data folder; None if there is no folder or its layout is unknown: scores do not need it."""
    if data is None or not data.is_dir():
        return None
    try:
        return Faces(open_dataset(data))
    except DataError:
        return None
