"""The official layout of Aff-Wild2: crops by video, label files by challenge, video files; and which layouts there are.

cropped_aligned/<video>/00001.jpg      or raw/images/<video>/00001.jpg
<challenge>/Train_Set/<video>.txt      or labels/<challenge>/...; also Validation_Set
training_set_annotations.txt           multi-task labels of all videos, see `abaw.datasets.mtl`
videos/<base>.mp4                      or batch1/, batch2/; `<base>_left` and `<base>_right` share a file
"""

from collections import Counter
from itertools import chain
from pathlib import Path

from abaw.datasets.dataset import Dataset, Labels, Video
from abaw.datasets.images import count_crops
from abaw.datasets.labels import find_labels
from abaw.datasets.lsd import TRAINING_FOLDER, VALIDATION_FOLDER, open_lsd
from abaw.datasets.mtl import find_mtl_labels
from abaw.datasets.vgaf import LABEL_FILES, open_vgaf
from abaw.datasets.videos import find_video_files, video_file_of
from abaw.errors import DataError

CROP_FOLDERS = ("cropped_aligned", "raw/images")


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
    """The videos of Aff-Wild2 under a root, with labels of all its challenges; None if neither is there."""
    folders = [root / name for name in reversed(CROP_FOLDERS) if (root / name).is_dir()]
    paths: dict[str, Path] = {}
    for path in chain.from_iterable(map(_video_folders, folders)):
        if path.name not in paths or count_crops(path):  # of a video in both folders the aligned crops count
            paths[path.name] = path
    files = find_video_files(root)
    videos = tuple(Video(name, paths[name], video_file_of(name, files)) for name in sorted(paths))
    mtl_labels, remarks = find_mtl_labels(root)
    labels: tuple[Labels, ...] = (*find_labels(root), *mtl_labels)
    return Dataset(root, videos, labels, fps, remarks) if videos or labels or remarks else None


def _video_folders(folder: Path) -> list[Path]:
    """Folders of crops; hidden ones are of other programs."""
    return [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]


def _nothing_in(root: Path, errors: list[str]) -> str:
    """A sentence for a root without videos."""
    names = sorted(path.name for path in root.iterdir())[:5]
    empty = [name for name in CROP_FOLDERS if (root / name).is_dir()]
    if errors:
        found = errors[0].removesuffix(".")
    elif empty:
        found = f"{root / empty[0]} has no video folders"
    else:
        found = f"{root} has no videos or images; " + (f"it holds {', '.join(names)}" if names else "it is empty")
    return (
        f"{found}. The layouts known are Aff-Wild2, with crops in {root}/{CROP_FOLDERS[0]}/<video>/00001.jpg or "
        f"{CROP_FOLDERS[1]}/; LSD, with images in {TRAINING_FOLDER}/<CLASS>/ and {VALIDATION_FOLDER}/<CLASS>/; VGAF, with "
        f"{' and '.join(LABEL_FILES.values())} beside its clips."
    )
