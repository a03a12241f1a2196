"""Face crops to measure with: drawn by the demo dataset, laid out as videos of any length."""

import os
import shutil
from pathlib import Path

import numpy as np

from abaw.datasets.demo import write_demo
from abaw.datasets.frames import FrameSource
from abaw.datasets.image_folders import CropFolder
from abaw.datasets.video_files import People

FPS = 30.0


def draw_crops(folder: Path) -> list[Path]:
    """Draw some hundred faces of several persons (112x112 JPEG); the files in a fixed order."""
    write_demo(folder / "drawn", "tiny", workers=1)
    return sorted((folder / "drawn" / "cropped_aligned").glob("*/*.jpg"))


def make_video(root: Path, name: str, crops: list[Path], n_frames: int, link: bool = False) -> FrameSource:
    """A video of `n_frames` crops taken from `crops` in turn, as copies or as hard links."""
    folder = root / name
    folder.mkdir(parents=True)
    place = os.link if link else shutil.copyfile
    for frame in range(n_frames):
        place(crops[frame % len(crops)], folder / f"{frame + 1:06d}.jpg")
    frames = CropFolder(name, folder, None).open(FPS, People(root))
    assert np.array_equal(frames.rows, np.arange(n_frames))
    return frames
