"""The official layout of Aff-Wild2: crops by video, label files by challenge, video files; and which layouts there are.

cropped_aligned/<video>/00001.jpg      or raw/images/<video>/00001.jpg
<challenge>/Train_Set/<video>.txt      also Validation_Set
training_set_annotations.txt           multi-task labels of all videos, see `abaw.datasets.mtl`
videos/<base>.mp4                      `<base>_left` and `<base>_right` share a file

`abaw.datasets.folders` tells what other names these folders may have, and where they may lie.
"""

from collections import Counter
from itertools import chain
from pathlib import Path

from abaw.core.errors import DataError
from abaw.datasets.dataset import Dataset, Labels, Video
from abaw.datasets.folders import CROPS, RAW, find_crop_folders, find_folders, find_video_files
from abaw.datasets.labels import find_labels
from abaw.datasets.lsd import TRAINING_FOLDER, VALIDATION_FOLDER, open_lsd
from abaw.datasets.mtl import find_mtl_labels
from abaw.datasets.vgaf import LABEL_FILES, open_vgaf
from abaw.datasets.videos import People, video_file_of


def open_dataset(root: Path, fps: float | None = None) -> Dataset:
    """Find the videos and labels of every layout that lies under a root; no image is opened.

    Args:
        root: the folder that holds `cropped_aligned/` and the challenge folders, or the folders of another layout.
        fps: frame rate for videos without a file.

    Raises:
        DataError: no such folder, no layout that is known, nothing in it, or two videos of one name.
    """
    dataset = look_through(root, fps)
    if not dataset.videos:
        raise DataError(_nothing_in(root, [remark.sentence for remark in dataset.remarks if remark.is_error]))
    twice = [name for name, n in Counter(video.name for video in dataset.videos).items() if n > 1]
    if twice:
        places = " and ".join(str(video.folder) for video in dataset.videos if video.name == twice[0])
        raise DataError(
            f"{root} has two videos of the name {twice[0]!r}: {places}. Rename one, or keep the two layouts apart."
        )
    return dataset


def look_through(root: Path, fps: float | None = None) -> Dataset:
    """The same for those who need no videos: there may be labels alone, or nothing, or two videos of one name.

    Raises:
        DataError: no such folder.
    """
    if not root.is_dir():
        raise DataError(f"No data folder {root}. Name yours with --data, or make a demo one with `abaw demo`.")
    found = (open_affwild2(root, fps), open_lsd(root, fps), open_vgaf(root, fps))
    layouts = [dataset for dataset in found if dataset is not None]
    videos: list[Video] = []
    for dataset in layouts:
        files = {video.file for video in videos if video.file is not None}  # of which there are crops: no clips
        videos += [video for video in dataset.videos if video.file not in files]
    remarks = tuple(chain.from_iterable(dataset.remarks for dataset in layouts))
    labels = tuple(chain.from_iterable(dataset.labels for dataset in layouts))
    return Dataset(root, tuple(videos), labels, fps, remarks)


def open_affwild2(root: Path, fps: float | None = None) -> Dataset | None:
    """The videos of Aff-Wild2 under a root, with labels of all its challenges; None if neither is there.

    Raises:
        DataError: crops or files of one video lie in two places.
    """
    folders, people = find_folders(root), People(root)
    paths = find_crop_folders(folders)
    files = find_video_files(root, folders)
    videos = tuple(Video(name, paths[name], video_file_of(name, files, people)) for name in sorted(paths))
    mtl_labels, remarks = find_mtl_labels(folders.mtl)
    labels: tuple[Labels, ...] = (*find_labels(folders.labels), *mtl_labels)
    return Dataset(root, videos, labels, fps, remarks) if videos or labels or remarks else None


def _nothing_in(root: Path, errors: list[str]) -> str:
    """A sentence for a root without videos."""
    names = sorted(path.name for path in root.iterdir())[:5]
    folders = find_folders(root)
    empty = [*folders.crops, *folders.raw]
    if errors:
        found = errors[0].removesuffix(".")
    elif empty:
        found = f"{empty[0]} has no video folders"
    else:
        found = f"{root} has no videos or images; " + (f"it holds {', '.join(names)}" if names else "it is empty")
    return (
        f"{found}. The layouts known are Aff-Wild2, with crops in {root}/{CROPS}/<video>/00001.jpg or {'/'.join(RAW)}/; "
        f"LSD, with images in {TRAINING_FOLDER}/<CLASS>/ and {VALIDATION_FOLDER}/<CLASS>/; VGAF, with "
        f"{' and '.join(LABEL_FILES.values())} beside its clips."
    )
