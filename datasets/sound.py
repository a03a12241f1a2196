"""Sound files of a dataset: `audio/<video>.wav|flac|mp3`, or the video file itself."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from abaw.datasets.dataset import Video
from abaw.datasets.videos import People, video_file_of
from abaw.names import composed

FOLDER = "audio"
SUFFIXES = (".wav", ".flac", ".mp3")


def find_sound_files(root: Path) -> dict[str, Path]:
    """Sound files of a dataset by the name of their video; a wav goes before a flac, a flac before an mp3."""
    folder = root / FOLDER
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    found: dict[str, Path] = {}
    for suffix in SUFFIXES:
        for file in files:
            if file.suffix.lower() == suffix:
                found.setdefault(file.stem, file)
    return found


def sound_file_of(video: Video, files: Mapping[str, Path], people: People) -> Path | None:
    """Where a video's sound is: its own sound file, that of its base name, or the video file; None if there is none.

    A video with a file of its own has no base: `talk_2` beside `talk_2.mp4` is no second person in `talk`.

    Args:
        files: what `find_sound_files` gave.
        people: of the same dataset.
    """
    if video.file is not None and composed(video.file.stem) == video.name:
        return files.get(video.name, video.file)
    return video_file_of(video.name, files, people) or video.file


def sound_digest(frames_digest: str, file: Path | None) -> str:
    """sha256 over what a video's audio features come from.

    Args:
        frames_digest: `Dataset.digest` of the video, which fixes its clock and its number of frames.
        file: what `sound_file_of` gave.
    """
    size_bytes = file.stat().st_size if file is not None else None
    name = file.name if file is not None else None
    return hashlib.sha256(f"{frames_digest} sound {name} {size_bytes}".encode()).hexdigest()
