"""Files in a data folder that are not read, and why: unknown names, other suffixes, archives."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from abaw.core.errors import did_you_mean, some_of
from abaw.core.names import composed, is_junk
from abaw.core.tasks import TASKS
from abaw.datasets.dataset import Dataset
from abaw.datasets.folders import (
    LABEL_SUFFIX,
    NO_CONTAINER,
    find_folders,
    folded,
    has_known_name,
    is_folder,
    subfolders,
)
from abaw.datasets.label_tables import is_label_table
from abaw.datasets.named_people import TABLE
from abaw.datasets.sound_files import SUFFIXES as SOUND_SUFFIXES
from abaw.datasets.sound_files import find_sound_files, sound_file_of, sound_folder
from abaw.datasets.transcripts import transcript_place
from abaw.datasets.video_files import FACES, SUFFIXES
from abaw.media.links import is_broken

ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst")
MOST_NAMED = 3
LABELS_READ = "VA_Estimation_Challenge/Train_Set/<video>.txt"
FOLDERS = (
    *("cropped_aligned", "raw", "videos", "batch1", "split", "Videos", "cropped-aligned-faces", "frames", "labels"),
    *("Train", "Validation", "audio", "transcription", "training_set_synthetic_images", "validation_set_real_images"),
)
WINDOWS = "_seq"  # ends the names of tables of windows


@dataclass(frozen=True)
class Unread:
    """Files or folders in one folder that are not read for one reason.

    Attributes:
        folder: relative to the data folder; empty for the data folder itself.
        names: names in it, sorted.
        reason: why they are not read, and what to do.
    """

    folder: str
    names: tuple[str, ...]
    reason: str

    @property
    def paths(self) -> tuple[str, ...]:
        """Paths relative to the data folder."""
        return tuple(f"{self.folder}/{name}" if self.folder else name for name in self.names)

    @property
    def sentence(self) -> str:
        """The first names, and the reason."""
        count = f" ({len(self.names):,})" if len(self.names) > 1 else ""
        return f"{some_of(self.paths, MOST_NAMED)}{count}: {self.reason}"


def find_unread(dataset: Dataset) -> list[Unread]:
    """Everything under the root that no layout reads, by folder and reason, except for junk of other programs."""
    return _Search(dataset).run()


class _Search:
    """Walks through folders that contain read files and those with known names."""

    def __init__(self, dataset: Dataset) -> None:
        self._root, self._folders = dataset.root, find_folders(dataset.root)
        self._audio, self._transcripts = sound_folder(dataset.root), transcript_place(dataset.root)
        sounds = find_sound_files(dataset.root)
        self._used = set(_used_paths(dataset, sounds))
        self._with_sound = sounds.keys() & {composed(path.stem) for path in self._used}
        self._files = {composed(path.stem): path for path in self._used if path.parent in self._folders.videos}
        self._remarked = {remark.about for remark in dataset.remarks}
        known_folders = {*self._folders.crops, *self._folders.raw, *self._folders.videos, self._audio}
        known_folders |= {folder for _, _, folder in self._folders.labels}
        self._entered = {parent for path in self._used | known_folders for parent in path.parents} | known_folders
        self._read = {FACES, *([TABLE] if dataset.persons else [])}  # tables of `abaw prepare`, and of people
        self._unread: dict[tuple[str, str], list[str]] = {}

    def run(self) -> list[Unread]:
        self._enter(self._root)
        return [Unread(folder, tuple(names), reason) for (folder, reason), names in self._unread.items()]

    def _enter(self, folder: Path) -> None:
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            self._note(folder, f"it cannot be entered ({error.strerror})")
            return
        for entry in entries:
            path = folder / entry.name
            is_read = folder == self._root and entry.name in self._read
            is_reported = path == self._transcripts or self._is_remarked(path)  # elsewhere
            if is_junk(entry.name) or is_read or path in self._used or is_reported:
                continue
            if not is_folder(entry):
                self._note(path, self._why_not_file(path))
            elif path in self._entered:
                self._enter(path)
            elif not (path / NO_CONTAINER).exists():  # a feature store
                self._note(path, self._why_not_folder(path))

    def _is_remarked(self, path: Path) -> bool:
        return path.name in self._remarked or path.relative_to(self._root).as_posix() in self._remarked

    def _note(self, path: Path, reason: str) -> None:
        folder = path.parent.relative_to(self._root).as_posix() if path != self._root else ""
        self._unread.setdefault(("" if folder == "." else folder, reason), []).append(path.name)

    def _why_not_file(self, path: Path) -> str:
        suffix = path.suffix.lower()
        if is_broken(path):
            return "a broken link: get its target with `git annex get` or `dvc pull`"
        if suffix in ARCHIVES:
            return "an archive, which is not opened: unpack it"
        if path.parent in self._folders.videos or path.parent == self._audio:
            is_video = path.parent in self._folders.videos
            if suffix not in (SUFFIXES if is_video else SOUND_SUFFIXES):
                return f"files that end in {suffix or 'nothing'} are not read here: convert to {'.mp4' if is_video else '.wav'}"
            if is_video:
                file_that_is_read = self._files.get(composed(path.stem))
                if file_that_is_read is not None and file_that_is_read != path:
                    return "an identical file of the same video is read instead"
                return "this video has no crops: make them with `abaw prepare`"
            is_second = composed(path.stem) in self._with_sound
            return "another sound file of this video is read" if is_second else "the dataset has no such video"
        if any(path.parent == folder for _, _, folder in self._folders.labels):
            return f"label files end in {LABEL_SUFFIX}"
        if suffix == ".csv" and is_label_table(path):
            return f"a table of labels, which is read if it is train.csv or val.csv and there is no {LABELS_READ}"
        if suffix == ".csv" and path.stem.endswith(WINDOWS):
            return "a table of windows, which training draws by itself: --set window=250 --set stride=100 --set phase=fixed"
        return "not a known file name"

    def _why_not_folder(self, path: Path) -> str:
        if path.parent in self._folders.raw:
            return "the aligned crops of this video are read instead"
        if any(path.parent == folder.parent for _, _, folder in self._folders.labels):
            if folded(path.name).startswith("test"):
                return "labels of test sets are not read"
            return "not the folder of a split, such as Train_Set or Validation_Set"
        inner_path = _readable_inside(path, 2)
        if inner_path:
            return f"not a known folder name; it contains {inner_path}: move that up"
        return f"not a known folder name{_near_folders(path.name)}"


def _near_folders(name: str) -> str:
    """A clause with folders of similar names that layouts read; empty without such, and for one of these names."""
    known = [*FOLDERS, *(folder for task in TASKS.values() if task.labels for folder in task.labels.folders)]
    by_name = {folded(folder): folder for folder in known}
    near = did_you_mean(folded(name), list(by_name)) if folded(name) not in by_name else ""
    names = near.strip().removeprefix("Did you mean ").removesuffix("?").split(" or ")
    return f"; did you mean {' or '.join(by_name[one] for one in names)}" if near else ""


def _readable_inside(folder: Path, depth: int) -> str:
    """The first folder at most `depth` levels down that would be read if it were moved up; empty without one."""
    for inner in subfolders(folder):
        if has_known_name(inner):
            return inner.name
        if depth > 1 and (inner_path := _readable_inside(inner, depth - 1)):
            return f"{inner.name}/{inner_path}"
    return ""


def _used_paths(dataset: Dataset, sounds: Mapping[str, Path]) -> Iterator[Path]:
    """Files and folders that are read; `sounds` are the sound files by video."""
    for video in dataset.videos:
        yield video.path
        for file in (video.file, sound_file_of(video, sounds, dataset.people)):
            if file is not None:
                yield file
    yield from dataset.companions
    for label in dataset.labels:
        yield label.path
