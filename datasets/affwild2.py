"""The official layout of Aff-Wild2: crops by video, label files by challenge, video files.

cropped_aligned/<video>/00001.jpg      or raw/images/<video>/00001.jpg
<challenge>/Train_Set/<video>.txt      or labels/<challenge>/...; also Validation_Set
videos/<base>.mp4                      or batch1/, batch2/; `<base>_left` and `<base>_right` share a file
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from abaw.datasets.images import Crops, list_crops
from abaw.datasets.labels import LabelFile, find_labels
from abaw.datasets.videos import DEFAULT_FPS, Timing, find_video_files, probe_timing, video_file_of
from abaw.errors import DataError

CROP_FOLDERS = ("cropped_aligned", "raw/images")


@dataclass(frozen=True)
class Video:
    """One person in one video: the folder of crops, and the video file if it is there."""

    name: str
    folder: Path
    file: Path | None

    def crops(self) -> Crops:
        """List the crops; nothing is decoded."""
        return list_crops(self.folder)


@dataclass(frozen=True)
class Clock:
    """Frame rate and number of frames of a video, and where they come from.

    Attributes:
        fps: frames a second.
        n_frames: of the video file, or the last crop's number where there is no file (or crops go on after its end).
        warning: why the frame rate is assumed; empty where it was read from the file.
    """

    fps: float
    n_frames: int
    warning: str = ""


@dataclass(frozen=True)
class Dataset:
    """Videos and label files found under a root. `fps` stands in for videos without a file."""

    root: Path
    videos: tuple[Video, ...]
    labels: tuple[LabelFile, ...]
    fps: float | None

    def digest(self, video: Video, crops: Crops) -> str:
        """sha256 over what a video's features come from: its crops, and the file (or --fps) that its clock is from."""
        clock_from = video.file.stat().st_size if video.file is not None else self.fps
        return hashlib.sha256(f"{crops.digest} {clock_from}".encode()).hexdigest()

    def clock(self, video: Video, crops: Crops) -> Clock:
        """Frame rate and number of frames of a video."""
        timing, reason = Timing(self.fps or DEFAULT_FPS, 0), "no video file"
        if video.file is not None:
            try:
                timing, reason = probe_timing(video.file), ""
            except DataError as error:
                reason = str(error)
        last_crop = int(crops.numbers[-1]) if len(crops.numbers) else 0
        assumed = f"{timing.fps:g} fps " + ("given with --fps" if self.fps else "assumed; say it with --fps")
        return Clock(timing.fps, max(timing.n_frames, last_crop), f"{reason}: {assumed}" if reason else "")


def open_dataset(root: Path, fps: float | None = None) -> Dataset:
    """Find videos and label files; reads folder listings only.

    Args:
        root: the folder that holds `cropped_aligned/` and the challenge folders.
        fps: frame rate for videos without a file.

    Raises:
        DataError: no such folder, or no crops in it.
    """
    if not root.is_dir():
        raise DataError(f"No data folder {root}. Name yours with --data, or make a demo one with `abaw demo`.")
    folders = [root / name for name in CROP_FOLDERS if (root / name).is_dir()]
    # an empty cropped_aligned/ must not hide raw/images/
    folder = next((folder for folder in folders if _video_folders(folder)), next(iter(folders), None))
    expected = f"Crops belong into {root}/{CROP_FOLDERS[0]}/<video>/00001.jpg."
    if folder is None:
        names = sorted(path.name for path in root.iterdir())[:5]
        found = f"it holds {', '.join(names)}" if names else "it is empty"
        raise DataError(f"{root} has no {CROP_FOLDERS[0]}/ or {CROP_FOLDERS[1]}/ folder; {found}. {expected}")
    files = find_video_files(root)
    videos = tuple(Video(path.name, path, video_file_of(path.name, files)) for path in _video_folders(folder))
    if not videos:
        raise DataError(f"{folder} has no video folders. {expected}")
    return Dataset(root, videos, tuple(find_labels(root)), fps)


def _video_folders(folder: Path) -> list[Path]:
    """Folders of crops; hidden ones are of other programs."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
