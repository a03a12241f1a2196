"""Datasets of very many frames that cost little: hard links of a few small JPEG files, in the official layout."""

import os
from pathlib import Path

import numpy as np
import simplejpeg

from abaw.core.tasks import ACTION_UNITS, EXPRESSIONS

MOST_LINKS = 60_000  # of one file; ext4 allows 65,000
# about as Aff-Wild2: three tasks, and labels for a bit more than half of the videos
LABELS = {
    "VA_Estimation_Challenge": ("valence,arousal", "0.123,-0.456"),
    "EXPR_Classification_Challenge": (",".join(EXPRESSIONS), "3"),
    "AU_Detection_Challenge": (",".join(ACTION_UNITS), "0,1,0,0,1,0,0,1,0,0,1,0"),
}
LABELLED = 0.55
VALIDATION = 5  # every fifth labelled video


class Crops:
    """Gives the same JPEG file under as many names as wanted."""

    def __init__(self, folder: Path, size_px: int) -> None:
        self._folder = folder
        pixels = np.random.default_rng(0).integers(0, 256, (size_px, size_px, 3), dtype=np.uint8)
        self._content, self._n_files, self._n_left = simplejpeg.encode_jpeg(pixels), 0, 0
        folder.mkdir(parents=True)

    def link(self, folder: Path, n_frames: int) -> None:
        """Make a folder of `00001.jpg` and so on."""
        folder.mkdir(parents=True)
        for number in range(1, n_frames + 1):
            if not self._n_left:
                self._n_files, self._n_left = self._n_files + 1, MOST_LINKS
                (self._folder / f"{self._n_files}.jpg").write_bytes(self._content)
            os.link(self._folder / f"{self._n_files}.jpg", f"{folder}/{number:05}.jpg")
            self._n_left -= 1


def write_videos(root: Path, n_videos: int, n_frames: int, size_px: int, shared: bool = False) -> Path:
    """A dataset of equally long videos.

    Args:
        size_px: side of the crops.
        shared: all videos are links to one folder of crops, which takes no time to make.
    """
    crops, videos = Crops(root / "jpeg", size_px), root / "data" / "cropped_aligned"
    videos.mkdir(parents=True)
    if shared:
        crops.link(root / "shared", n_frames)
    for number in range(n_videos):
        video = videos / f"video-{number:05}"
        if shared:
            video.symlink_to(root / "shared", target_is_directory=True)
        else:
            crops.link(video, n_frames)
    return root / "data"


def write_labels(data: Path, n_rows: int, labelled: float = LABELLED) -> int:
    """Label files of three tasks; gives their number.

    Args:
        n_rows: of each.
        labelled: part of the videos that have them.
    """
    names = sorted(path.name for path in (data / "cropped_aligned").iterdir())
    chosen = names[: round(labelled * len(names))]
    for challenge, (header, row) in LABELS.items():
        content = f"{header}\n" + f"{row}\n" * n_rows
        for number, name in enumerate(chosen):
            folder = data / challenge / ("Train_Set" if number % VALIDATION else "Validation_Set")
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{name}.txt").write_text(content)
    return len(LABELS) * len(chosen)
