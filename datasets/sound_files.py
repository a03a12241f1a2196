"""Sound files of a dataset: `audio/<video>.wav`, `.flac`, `.mp3` and others, or the video file itself."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from abaw.core.names import composed
from abaw.datasets.folders import files_in, folded, subfolders
from abaw.datasets.frames import FrameSource, Video
from abaw.datasets.video_files import People, video_file_of

FOLDER = "audio"
# Of two files of one video the one whose suffix stands first is taken.
SUFFIXES = (
    *(".wav", ".flac", ".mp3", ".m4a", ".aac", ".ogg", ".opus", ".wma"),
    *(".aiff", ".aif", ".mka", ".oga", ".weba", ".caf", ".w64", ".ac3", ".amr"),
)


def sound_folder(root: Path) -> Path:
    """The folder of a dataset's sound files, in small or capital letters; it may not be there."""
    return next((folder for folder in subfolders(root) if folded(folder.name) == FOLDER), root / FOLDER)


def find_sound_files(root: Path) -> dict[str, Path]:
    """Sound files of a dataset by the name of their video; a wav goes before a flac, a flac before the others."""
    folder = sound_folder(root)
    files = sorted(files_in(folder, SUFFIXES)) if folder.is_dir() else []
    found: dict[str, Path] = {}
    for file in sorted(files, key=lambda file: SUFFIXES.index(file.suffix.lower())):
        if not file.is_dir():
            found.setdefault(composed(file.stem), file)
    return found


def sound_file_of(video: Video | FrameSource, files: Mapping[str, Path], people: People) -> Path | None:
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
        frames_digest: `FrameSource.digest` of the video, which fixes its clock and its number of frames.
        file: what `sound_file_of` gave.
    """
    size_bytes = file.stat().st_size if file is not None else None
    name = file.name if file is not None else None
    return hashlib.sha256(f"{frames_digest} sound {name} {size_bytes}".encode()).hexdigest()
