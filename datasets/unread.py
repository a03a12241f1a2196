"""What lies in a data folder and is not read, and why: a folder of another name, a suffix, an archive."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from abaw.core.errors import some_of
from abaw.core.names import composed, is_junk
from abaw.datasets.dataset import Dataset
from abaw.datasets.folders import LABEL_SUFFIX, NO_CONTAINER, find_folders, folded, is_folder, is_known, subfolders
from abaw.datasets.sound_files import SUFFIXES as SOUND_SUFFIXES
from abaw.datasets.sound_files import find_sound_files, sound_file_of, sound_folder
from abaw.datasets.video_files import FACES, SUFFIXES
from abaw.media.links import is_broken

ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst")
MOST_NAMED = 3


@dataclass(frozen=True)
class Unread:
    """Files or folders in one place that are not read for one reason.

    Attributes:
        place: the folder they lie in, below the data folder; empty for that itself.
        names: of them, sorted.
        reason: why, and what to do.
    """

    place: str
    names: tuple[str, ...]
    reason: str

    @property
    def paths(self) -> tuple[str, ...]:
        """The names with the folder they lie in."""
        return tuple(f"{self.place}/{name}" if self.place else name for name in self.names)

    @property
    def sentence(self) -> str:
        """The first names, and the reason."""
        count = f" ({len(self.names):,})" if len(self.names) > 1 else ""
        return f"{some_of(self.paths, MOST_NAMED)}{count}: {self.reason}"


def find_unread(dataset: Dataset) -> list[Unread]:
    """Everything under the root that no layout reads, by place and reason; what other programs leave is passed over."""
    return _Search(dataset).run()


class _Search:
    """Goes through the folders that something is read from, and those that are known by their names."""

    def __init__(self, dataset: Dataset) -> None:
        self._root, self._folders = dataset.root, find_folders(dataset.root)
        self._audio = sound_folder(dataset.root)
        self._used = set(_used_paths(dataset))
        self._heard = find_sound_files(dataset.root).keys() & {composed(path.stem) for path in self._used}
        self._files = {composed(path.stem): path for path in self._used if path.parent in self._folders.videos}
        self._told = {remark.about for remark in dataset.remarks}
        known = {*self._folders.crops, *self._folders.raw, *self._folders.videos, self._audio}
        known |= {folder for _, _, folder in self._folders.labels}
        self._entered = {parent for path in self._used | known for parent in path.parents} | known
        self._found: dict[tuple[str, str], list[str]] = {}

    def run(self) -> list[Unread]:
        self._enter(self._root)
        return [Unread(place, tuple(names), reason) for (place, reason), names in self._found.items()]

    def _enter(self, folder: Path) -> None:
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            self._note(folder, f"it cannot be entered ({error.strerror})")
            return
        for entry in entries:
            path = folder / entry.name
            is_own = folder == self._root and entry.name == FACES  # the tables of `abaw prepare`
            if is_junk(entry.name) or is_own or path in self._used or self._is_told(path):
                continue
            if not is_folder(entry):
                self._note(path, self._why_not_file(path))
            elif path in self._entered:
                self._enter(path)
            elif not (path / NO_CONTAINER).exists():  # a feature store
                self._note(path, self._why_not_folder(path))

    def _is_told(self, path: Path) -> bool:
        return path.name in self._told or path.relative_to(self._root).as_posix() in self._told

    def _note(self, path: Path, reason: str) -> None:
        place = path.parent.relative_to(self._root).as_posix() if path != self._root else ""
        self._found.setdefault(("" if place == "." else place, reason), []).append(path.name)

    def _why_not_file(self, path: Path) -> str:
        suffix = path.suffix.lower()
        if is_broken(path):
            return "a link to nothing: get what it leads to with `git annex get` or `dvc pull`"
        if suffix in ARCHIVES:
            return "an archive, which is not looked into: unpack it"
        if path.parent in self._folders.videos or path.parent == self._audio:
            is_video = path.parent in self._folders.videos
            if suffix not in (SUFFIXES if is_video else SOUND_SUFFIXES):
                return f"files that end in {suffix or 'nothing'} are not read here: convert to {'.mp4' if is_video else '.wav'}"
            if is_video:
                other = self._files.get(composed(path.stem))
                if other is not None and other != path:
                    return "another file of the same video, and just like it, is read"
                return "there are no crops of this video: make them with `abaw prepare`"
            is_second = composed(path.stem) in self._heard
            return "another sound file of this video is read" if is_second else "there is no such video"
        if any(path.parent == folder for _, _, folder in self._folders.labels):
            return f"label files end in {LABEL_SUFFIX}"
        return "no file of a known name"

    def _why_not_folder(self, path: Path) -> str:
        if path.parent in self._folders.raw:
            return "the aligned crops of this video are read instead"
        if any(path.parent == folder.parent for _, _, folder in self._folders.labels):
            if folded(path.name).startswith("test"):
                return "labels of test sets are not read"
            return "no folder of a split: those are Train_Set and Validation_Set"
        held = _known_inside(path, 2)
        return "no folder of a known name" + (f"; it holds {held}: move that up" if held else "")


def _known_inside(folder: Path, depth: int) -> str:
    """The first folder some levels down that would be read further up; empty if there is none."""
    for inner in subfolders(folder):
        if is_known(inner):
            return inner.name
        if depth > 1 and (found := _known_inside(inner, depth - 1)):
            return f"{inner.name}/{found}"
    return ""


def _used_paths(dataset: Dataset) -> Iterator[Path]:
    """Files and folders that something is read from."""
    sounds = find_sound_files(dataset.root)
    for video in dataset.videos:
        yield video.path
        for file in (video.file, sound_file_of(video, sounds, dataset.people)):
            if file is not None:
                yield file
    for label in dataset.labels:
        yield label.path
