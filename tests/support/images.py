"""Folders of real images of noise."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import Image

Frames = int | Iterable[int]  # a number of frames from 1, or the frame numbers themselves


def draw_noise(seed: object, size: int, cells: int = 7) -> np.ndarray:
    """(size, size, 3) uint8: coarse noise, smoothly enlarged."""
    coarse = np.random.default_rng(seed).integers(0, 256, (cells, cells, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC))


def write_crops(folder: Path, frames: Frames, seed: int = 0, size: int = 112, suffix: str = ".jpg") -> Path:
    """Write numbered images; returns their folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, frames + 1) if isinstance(frames, int) else frames:
        picture, file = draw_noise([seed, number], size), folder / f"{number:05}{suffix}"
        if suffix == ".png":
            Image.fromarray(picture).save(file)
        else:
            file.write_bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(picture), quality=92))
    return folder


def write_data(root: Path, videos: Mapping[str, Frames], size: int = 112) -> Path:
    """Write a dataset without labels and video files, the frames of each video; returns its root."""
    for seed, (name, frames) in enumerate(videos.items()):
        write_crops(root / "cropped_aligned" / name, frames, seed, size)
    return root


def write_slow_data(root: Path) -> Path:
    """Write 20 videos whose images are so large that one process needs seconds for them; returns their root."""
    rng, images = np.random.default_rng(0), []
    for number in range(10):
        images.append(root.parent / f"{number}.jpg")
        images[-1].write_bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(draw_noise(rng, 900, 9)), quality=90))
    for video in range(20):
        folder = root / "cropped_aligned" / f"video-{video:02}"
        folder.mkdir(parents=True)
        for frame in set(range(1, 22)) - {1 + video}:
            (folder / f"{frame:05}.jpg").hardlink_to(images[(frame + 3 * video) % 10])
    return root
