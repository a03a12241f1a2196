"""Pictures of a data folder, looked up by video and row: they go beside predictions where the folder is at hand."""

from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from abaw.core.errors import DataError
from abaw.datasets.clips import Clip
from abaw.datasets.crops import Crops
from abaw.datasets.dataset import Video
from abaw.datasets.layouts import open_dataset
from abaw.media.images import read_image


class Faces:
    """Face crops (or images) of the videos of a dataset; a folder is listed when it is first asked for.

    Args:
        videos: of the dataset; clips without crops have no pictures here.
    """

    def __init__(self, videos: tuple[Video, ...]) -> None:
        self._videos = {video.name: video for video in videos if not isinstance(video, Clip)}
        self._list = lru_cache(maxsize=64)(self._list_crops)

    def read(self, video: str, row: int) -> NDArray[np.uint8] | None:
        """(height, width, 3) RGB picture of a video's row; None where there is none, or it is damaged."""
        file = self.file(video, row)
        try:
            return read_image(file) if file is not None else None
        except DataError:
            return None

    def file(self, video: str, row: int) -> Path | None:
        """File of a video's row; None where there is none."""
        crops = self._list(video)
        if crops is None:
            return None
        place = int(np.searchsorted(crops.numbers, row + 1))
        if place == len(crops.numbers) or crops.numbers[place] != row + 1:
            return None
        return crops.folder / crops.names[place]

    def _list_crops(self, video: str) -> Crops | None:
        try:
            return self._videos[video].crops() if video in self._videos else None
        except OSError:  # a label without a folder
            return None


def open_faces(data: Path | None) -> Faces | None:
    """The pictures of a data folder; None if there is no folder, or it is somebody else's: scores do not need it."""
    if data is None or not data.is_dir():
        return None
    try:
        return Faces(open_dataset(data).videos)
    except DataError:
        return None
