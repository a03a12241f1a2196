"""Finding the videos of layouts whose folders have no fixed names: video files, and folders of numbered images."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from abaw.core.names import composed, is_junk
from abaw.datasets.clips import Clip
from abaw.datasets.crops import Crops, count_crops, list_crops
from abaw.datasets.folders import NO_CONTAINER, find_crop_folders, find_folders, is_folder
from abaw.datasets.frames import WHOLE, Video
from abaw.datasets.image_folders import CropFolder, CropFrames
from abaw.datasets.video_files import SUFFIXES, People
from abaw.media.images import SUFFIXES as IMAGE_SUFFIXES

MAX_DEPTH = 5  # levels below the data folder


class WholeFrames(CropFrames):
    """Frames of a scene that are not cropped to faces, `00001.jpg`."""

    @property
    def alignment(self) -> str:
        """`WHOLE`."""
        return WHOLE

    @cached_property
    def crops(self) -> Crops:
        """The listing, made on first use."""
        return list_crops(self.folder)


class SceneFolder(CropFolder):
    """A video as a folder of whole frames."""

    def open(self, fps: float | None, people: People) -> WholeFrames:
        """Its frames; nothing is listed yet."""
        return WholeFrames(self.name, self.path, self.file, fps, people)


@dataclass(frozen=True)
class Media:
    """Videos under a folder, by name.

    Attributes:
        files: video files by name without suffix.
        folders: folders of numbered images by name, a suffix of video files left out.
        twice: names that two files, or two folders, have.
    """

    files: Mapping[str, Path]
    folders: Mapping[str, Path]
    twice: Mapping[str, tuple[Path, Path]]

    def videos(self, names: Iterable[str], folder_type: type[CropFolder] = CropFolder) -> list[Video]:
        """A video for each name that has images or a file; images come first.

        Args:
            folder_type: of videos with images.
        """
        videos: list[Video] = []
        for name in names:
            if name in self.folders:
                videos.append(folder_type(name, self.folders[name], self.files.get(name)))
            elif name in self.files:
                videos.append(Clip(name, self.files[name], self.files[name]))
        return videos


def name_of_video(text: str) -> str:
    """The name of a video in a table: `a` for `a`, `a.mp4` and `x/a.mp4`."""
    name = composed(PurePosixPath(text.strip().replace("\\", "/")).name)
    return next((name[: -len(suffix)] for suffix in SUFFIXES if name.lower().endswith(suffix)), name)


def search_media(root: Path, prefix: str = "") -> Media:
    """Look for video files and folders of numbered images, but those of face crops in the official layout.

    Args:
        prefix: that names of images may begin with, see `list_crops`.
    """
    files: dict[str, Path] = {}
    folders: dict[str, Path] = {}
    twice: dict[str, tuple[Path, Path]] = {}

    def add(known: dict[str, Path], path: Path) -> None:
        name = name_of_video(path.name)
        if known.setdefault(name, path) != path:
            twice.setdefault(name, (known[name], path))

    def enter(folder: Path, depth: int) -> None:
        inner, has_image = [], False
        for entry in _entries(folder):
            suffix = os.path.splitext(entry.name)[1].lower()
            if is_folder(entry):
                inner.append(folder / entry.name)
            elif suffix in SUFFIXES:
                add(files, folder / entry.name)
            elif suffix in IMAGE_SUFFIXES and entry.name.removeprefix(prefix).split(".")[0].isdigit():
                has_image = True
        if has_image:
            add(folders, folder)
        elif depth < MAX_DEPTH:
            for path in inner:
                enter(path, depth + 1)

    enter(root, 0)
    known = find_crop_folders(find_folders(root))  # another layout reads these
    official = {name for name, path in known.items() if count_crops(path)}
    folders = {name: path for name, path in folders.items() if name not in official}
    files = {name: path for name, path in files.items() if name not in official}
    return Media(files, folders, twice)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder, in the order of names; nothing in a feature store, or where entering is denied."""
    try:
        with os.scandir(folder) as entries:
            found = sorted((entry for entry in entries if not is_junk(entry.name)), key=lambda entry: entry.name)
    except OSError:
        return []
    return [] if any(entry.name == NO_CONTAINER for entry in found) else found
