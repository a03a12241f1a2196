"""Locations of the parts of Aff-Wild2: its archives unpack to many folders, which can stay where they are.

cropped_aligned/  cropped_aligned_new_50_vids/    crops: all folders with names like that, and such folders in them
raw/images/                                       pictures that are not aligned
batch1/  batch2/  new_vids/  videos/              video files
VA_Estimation_Challenge/Train_Set/  ...           label files

Each may be in the data folder or one level further down, in a folder of any name such as "6th ABAW Annotations". Case,
spaces, hyphens and underscores do not matter.
"""

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from abaw.core.errors import DataError, did_you_mean
from abaw.core.names import composed, is_junk
from abaw.core.tasks import TASKS
from abaw.datasets.crops import count_crops
from abaw.datasets.video_files import SUFFIXES
from abaw.media.file_content import is_same_content

CROPS = "cropped_aligned"
RAW = ("raw", "images")
VIDEOS = "videos"
BAH_VIDEOS = "Videos"  # in the crops of BAH, which have other folders
VIDEO_FOLDER = re.compile(r"videos?|batch_?[0-9]+|new_vids|new_videos")
MTL_FOLDER = re.compile(r"(mtl|multi_task(_learning)?)(_challenge)?")
SPLITS = {"train": re.compile(r"train(ing)?(_?set)?"), "val": re.compile(r"val(id|idation)?(_?set)?")}
TEST = "test"  # the split of videos to predict, whose labels are nobody's or not for training
LABEL_SUFFIX = ".txt"
NO_CONTAINER = "zarr.json"  # of a feature store


@dataclass
class Folders:
    """Folders of a dataset, each list in the order of names.

    Attributes:
        crops, raw, videos: folders with a folder of crops per video, a folder of pictures per video, or video files.
        labels: task, split and folder of label files.
        mtl: folders that may hold annotation files of all videos.
    """

    crops: list[Path] = field(default_factory=list)
    raw: list[Path] = field(default_factory=list)
    videos: list[Path] = field(default_factory=list)
    labels: list[tuple[str, str, Path]] = field(default_factory=list)
    mtl: list[Path] = field(default_factory=list)


def find_folders(root: Path) -> Folders:
    """Find the folders under a root and one level down; crops, videos and label files are not listed."""
    folders = Folders(mtl=[root])
    unknown = [folder for folder in subfolders(root) if not _add_by_name(folders, folder)]
    for home in unknown:
        if not (home / NO_CONTAINER).exists():
            for folder in subfolders(home):
                _add_by_name(folders, folder)
            folders.mtl.append(home)
    order = [(task, split) for task in TASKS for split in SPLITS]
    folders.labels.sort(key=lambda entry: (order.index(entry[:2]), entry[2]))
    return folders


def folded(name: str) -> str:
    """The name of a folder, normalized for comparison."""
    return re.sub(r"[ -]+", "_", composed(name).casefold())


def split_of(text: str) -> str:
    """`train`, `val` or `test` for a word such as `Training`; empty for others."""
    word = folded(text.strip())
    if word.startswith(TEST):
        return TEST
    return next((name for name, words in SPLITS.items() if words.fullmatch(word)), "")


def near_split(name: str) -> str:
    """A question with the split that the name of a folder is like, and a space after it; empty for that of a split, and
    for one that is like none."""
    return "" if split_of(name) else did_you_mean(name, ("Training", "Validation", "Test"))


def subfolders(folder: Path, is_needed: bool = False) -> list[Path]:
    """The folders in a folder, and links to folders, in the order of names, without junk of other programs.

    Args:
        is_needed: raise an error if the folder cannot be entered; else it counts as empty.

    Raises:
        DataError: the folder is needed and cannot be entered.
    """
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if not is_junk(entry.name) and is_folder(entry)]
    except OSError as error:
        if is_needed:
            raise _closed(folder, error) from error
        return []
    return [folder / name for name in sorted(names)]


def is_folder(entry: os.DirEntry) -> bool:
    """True for a folder or a link to one; False for circular links and links to where access is denied."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def files_in(folder: Path, suffixes: Iterable[str]) -> Iterator[Path]:
    """The files of a folder with one of the suffixes, in any case, in the order of names.

    Raises:
        DataError: the folder cannot be entered.
    """
    endings = frozenset(suffixes)
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208  names suffice
    except OSError as error:
        raise _closed(folder, error) from error
    for name in names:
        if os.path.splitext(name)[1].lower() in endings and not is_junk(name):
            yield folder / name


def _closed(folder: Path, error: OSError) -> DataError:
    return DataError(f"{folder} cannot be read ({error.strerror}). Check its permissions, or move it away.")


def _add_by_name(folders: Folders, folder: Path) -> bool:
    """Add a folder according to its name; False if the name is unknown."""
    name = folded(folder.name)
    if is_crop_folder(folder.name) and not (folder / BAH_VIDEOS).is_dir():
        folders.crops += [folder, *(inner for inner in subfolders(folder) if is_crop_folder(inner.name))]
    elif name == RAW[0] and (folder / RAW[1]).is_dir():
        folders.raw.append(folder / RAW[1])
    elif VIDEO_FOLDER.fullmatch(name):
        folders.videos += [
            folder,
            *(inner for inner in subfolders(folder) if VIDEO_FOLDER.fullmatch(folded(inner.name))),
        ]
    elif MTL_FOLDER.fullmatch(name):
        folders.mtl.append(folder)
    elif task := next((task.name for task in TASKS.values() if task.labels and name in task.labels.folders), ""):
        for inner in subfolders(folder):
            split = next((split for split, names in SPLITS.items() if names.fullmatch(folded(inner.name))), "")
            if split:
                folders.labels.append((task, split, inner))
    else:
        return False
    return True


def has_known_name(folder: Path) -> bool:
    """True if a folder of this name is read."""
    return _add_by_name(Folders(), folder)


def is_crop_folder(name: str) -> bool:
    """True for `cropped_aligned`, `cropped_aligned_new_50_vids`, `cropped_aligned_images` and the like."""
    return folded(name).startswith(CROPS)


def find_crop_folders(folders: Folders) -> dict[str, Path]:
    """Folders of crops by video; those in `raw/images` are used where there are no aligned crops.

    Raises:
        DataError: a video has crops in two folders.
    """
    by_video: dict[str, Path] = {}
    for folder in folders.crops:
        for path in subfolders(folder, is_needed=True):
            if not is_crop_folder(path.name):
                _add(by_video, composed(path.name), path)
    for folder in folders.raw:
        for path in subfolders(folder, is_needed=True):
            name = composed(path.name)
            if name not in by_video or not count_crops(by_video[name]):
                by_video[name] = path
    return by_video


def _add(by_video: dict[str, Path], name: str, path: Path) -> None:
    existing = by_video.setdefault(name, path)
    if existing == path or existing.samefile(path) or not count_crops(path):
        return
    if count_crops(existing):
        raise DataError(f"Video {name!r} has crops in {existing} and in {path}. Move one of them away, or rename it.")
    by_video[name] = path


def find_video_files(root: Path, folders: Folders | None = None) -> dict[str, Path]:
    """Video files of a dataset by name without suffix.

    Raises:
        DataError: two different files share a name.
    """
    by_name: dict[str, Path] = {}
    for folder in (folders or find_folders(root)).videos:
        for path in files_in(folder, SUFFIXES):
            existing = by_name.setdefault(composed(path.stem), path)
            if existing != path and not is_same_content(existing, path):
                raise DataError(
                    f"There are two files of video {path.stem!r}, which differ: {existing} and {path}. Move one of "
                    "them away, or rename it."
                )
    return by_name
