"""A layout of data: pain/<train or val>/<video>/00001.jpg, ... with the pain of each frame in pain/<split>/<video>.txt."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from abaw.core.errors import DataError
from abaw.datasets.dataset import Dataset
from abaw.datasets.image_folders import CropFolder
from abaw.datasets.layouts import Layout
from abaw_example.task import PAIN

SPLITS = ("train", "val")


@dataclass(frozen=True)
class PainLabels:
    """The labels of one video; see `abaw.datasets.dataset.Labels`."""

    split: str
    video: str
    path: Path
    task: str = PAIN.name

    def read(self) -> NDArray:
        """(frames, 1) float32."""
        try:
            return np.loadtxt(self.path, dtype=np.float32, ndmin=1)[:, None]
        except ValueError as error:
            raise DataError(f"{self.path} is not a number in each line ({error}). Correct it.") from error


def open_pain(root: Path, fps: float | None) -> Dataset | None:
    """The videos under a root; None if it has no folder `pain`."""
    folders = [folder for split in SPLITS for folder in sorted((root / "pain" / split).glob("*/"))]
    if not folders:
        return None
    videos = tuple(CropFolder(folder.name, folder, None) for folder in folders)
    files = [(folder.parent.name, folder.name, folder.with_suffix(".txt")) for folder in folders]
    labels = tuple(PainLabels(split, video, file) for split, video, file in files if file.is_file())
    return Dataset(root, videos, labels, fps)


LAYOUT = Layout(open_pain, "Pain, with crops in pain/train/ and pain/val/")
