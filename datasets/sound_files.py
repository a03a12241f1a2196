"""Sound files of a dataset: `audio/<video>.wav`, `.flac`, `.mp3` and others, or the video file itself."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from abaw.core.names import composed
from abaw.datasets.clips import spectrograms_of
from abaw.datasets.folders import files_in, folded, subfolders
from abaw.datasets.frames import FrameSource, Video
from abaw.datasets.video_files import People, video_file_of

FOLDER = "audio"
# in order of preference
SUFFIXES = (
    *(".wav", ".flac", ".mp3", ".m4a", ".aac", ".ogg", ".opus", ".wma"),
    *(".aiff", ".aif", ".mka", ".oga", ".weba", ".caf", ".w64", ".ac3", ".amr"),
)


def sound_folder(root: Path) -> Path:
    """The folder of sound files of a dataset, in any case of letters; it may not exist."""
    return next((folder for folder in subfolders(root) if folded(folder.name) == FOLDER), root / FOLDER)


def find_sound_files(root: Path) -> dict[str, Path]:
    """Sound files of a dataset by video; of several files, the one whose suffix is first in `SUFFIXES`."""
    folder = sound_folder(root)
    files = sorted(files_in(folder, SUFFIXES)) if folder.is_dir() else []
    by_video: dict[str, Path] = {}
    for file in sorted(files, key=lambda file: SUFFIXES.index(file.suffix.lower())):
        if not file.is_dir():
            by_video.setdefault(composed(file.stem), file)
    return by_video


def sound_file_of(video: Video | FrameSource, files: Mapping[str, Path], people: People) -> Path | None:
    """The file with the sound of a video: its sound file, that of its base name, or the video file; None without one.

    For a clip that exists only as tensors it is the tensor with its spectrograms.

    A video with its own video file has no base: with `talk_2.mp4`, `talk_2` is not the second person in `talk`.

    Args:
        files: see `find_sound_files`.
        people: of the same dataset.
    """
    if video.file is not None and composed(video.file.stem) == video.name:
        return files.get(video.name, video.file)
    return video_file_of(video.name, files, people) or video.file or spectrograms_of(video)


def sound_digest(frames_digest: str, file: Path | None) -> str:
    """sha256 over the sources of the audio features of a video.

    Args:
        frames_digest: `FrameSource.digest` of the video, which fixes its clock and its number of frames.
        file: see `sound_file_of`.
    """
    size_bytes = file.stat().st_size if file is not None else None
    name = file.name if file is not None else None
    return hashlib.sha256(f"{frames_digest} sound {name} {size_bytes}".encode()).hexdigest()
