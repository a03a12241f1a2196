"""Where the parts of Aff-Wild2 lie: its archives unpack to many folders, and nobody has to move them.

cropped_aligned/  cropped_aligned_new_50_vids/    crops: all folders whose name begins so, and such folders in them
raw/images/                                       pictures that are not aligned
batch1/  batch2/  new_vids/  videos/              video files
VA_Estimation_Challenge/Train_Set/  ...           label files

Each may lie in the data folder, or one level down in a folder of any name, such as "6th ABAW Annotations". Small and
capital letters, spaces, hyphens and underscores do not matter.
"""

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from abaw.core.errors import DataError
from abaw.core.names import composed, is_junk
from abaw.core.tasks import TASKS
from abaw.datasets.crops import count_crops
from abaw.datasets.video_files import SUFFIXES
from abaw.media.clock_cache import is_same_content

CROPS = "cropped_aligned"
RAW = ("raw", "images")
VIDEOS = "videos"
VIDEO_FOLDER = re.compile(r"videos?|batch_?[0-9]+|new_vids|new_videos")
MTL_FOLDER = re.compile(r"(mtl|multi_task(_learning)?)(_challenge)?")
SPLITS = {"train": re.compile(r"train(ing)?(_?set)?"), "val": re.compile(r"val(id|idation)?(_?set)?")}
LABEL_SUFFIX = ".txt"
NO_CONTAINER = "zarr.json"  # of a feature store


@dataclass
class Folders:
    """What was found, each in the order of names.

    Attributes:
        crops, raw, videos: folders of crops by video, of pictures by video, and of video files.
        labels: task, split and folder of label files.
        mtl: folders in which annotation files of all videos may lie.
    """

    crops: list[Path] = field(default_factory=list)
    raw: list[Path] = field(default_factory=list)
    videos: list[Path] = field(default_factory=list)
    labels: list[tuple[str, str, Path]] = field(default_factory=list)
    mtl: list[Path] = field(default_factory=list)


def find_folders(root: Path) -> Folders:
    """Look for the folders under a root, and one level down; no crop, video or label file is looked at."""
    found = Folders(mtl=[root])
    others = [folder for folder in subfolders(root) if not _take(found, folder)]
    for home in others:
        if not (home / NO_CONTAINER).exists():
            for folder in subfolders(home):
                _take(found, folder)
            found.mtl.append(home)
    order = [(task, split) for task in TASKS for split in SPLITS]
    found.labels.sort(key=lambda place: (order.index(place[:2]), place[2]))
    return found


def folded(name: str) -> str:
    """A folder's name without what does not matter in it."""
    return re.sub(r"[ -]+", "_", composed(name).casefold())


def subfolders(folder: Path, is_needed: bool = False) -> list[Path]:
    """The folders in a folder, and links to such, in the order of names; those of other programs are left out.

    Args:
        is_needed: without what is in it nothing would be right; else one that may not be entered has none.

    Raises:
        DataError: it is needed, and may not be entered.
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
    """True for a folder, or a link to one; a link that leads in a circle, or where nobody may look, is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def files_in(folder: Path, suffixes: Iterable[str]) -> Iterator[Path]:
    """The files of a folder that end in one of the suffixes, in any case, in the order of names.

    Raises:
        DataError: it may not be entered.
    """
    wanted = frozenset(suffixes)
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208  names suffice
    except OSError as error:
        raise _closed(folder, error) from error
    for name in names:
        if os.path.splitext(name)[1].lower() in wanted and not is_junk(name):
            yield folder / name


def _closed(folder: Path, error: OSError) -> DataError:
    return DataError(f"{folder} cannot be read ({error.strerror}). See that you may enter it, or move it away.")


def _take(found: Folders, folder: Path) -> bool:
    """Note what a folder is by its name; False if it is none that is known."""
    name = folded(folder.name)
    if is_crop_folder(folder.name):
        found.crops += [folder, *(inner for inner in subfolders(folder) if is_crop_folder(inner.name))]
    elif name == RAW[0] and (folder / RAW[1]).is_dir():
        found.raw.append(folder / RAW[1])
    elif VIDEO_FOLDER.fullmatch(name):
        found.videos += [folder, *(inner for inner in subfolders(folder) if VIDEO_FOLDER.fullmatch(folded(inner.name)))]
    elif MTL_FOLDER.fullmatch(name):
        found.mtl.append(folder)
    elif task := next((task.name for task in TASKS.values() if task.labels and name in task.labels.folders), ""):
        for inner in subfolders(folder):
            split = next((split for split, names in SPLITS.items() if names.fullmatch(folded(inner.name))), "")
            if split:
                found.labels.append((task, split, inner))
    else:
        return False
    return True


def is_known(folder: Path) -> bool:
    """True if a folder would be read by its name."""
    return _take(Folders(), folder)


def is_crop_folder(name: str) -> bool:
    """True for `cropped_aligned`, `cropped_aligned_new_50_vids`, `cropped_aligned_images` and the like."""
    return folded(name).startswith(CROPS)


def find_crop_folders(folders: Folders) -> dict[str, Path]:
    """Folders of crops by video; those in `raw/images` count where there are no aligned crops.

    Raises:
        DataError: a video has crops in two folders.
    """
    found: dict[str, Path] = {}
    for place in folders.crops:
        for path in subfolders(place, is_needed=True):
            if not is_crop_folder(path.name):
                _add(found, composed(path.name), path)
    for place in folders.raw:
        for path in subfolders(place, is_needed=True):
            name = composed(path.name)
            if name not in found or not count_crops(found[name]):
                found[name] = path
    return found


def _add(found: dict[str, Path], name: str, path: Path) -> None:
    other = found.setdefault(name, path)
    if other == path or other.samefile(path) or not count_crops(path):
        return
    if count_crops(other):
        raise DataError(f"Video {name!r} has crops in {other} and in {path}. Move one of the two away, or rename it.")
    found[name] = path


def find_video_files(root: Path, folders: Folders | None = None) -> dict[str, Path]:
    """Video files of a dataset by base name.

    Raises:
        DataError: two files that are not the same have one name.
    """
    found: dict[str, Path] = {}
    for place in (folders or find_folders(root)).videos:
        for path in files_in(place, SUFFIXES):
            other = found.setdefault(composed(path.stem), path)
            if other != path and not is_same_content(other, path):
                raise DataError(
                    f"There are two files of video {path.stem!r}, which differ: {other} and {path}. Move one of the two "
                    "away, or rename it."
                )
    return found
