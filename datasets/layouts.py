"""Opening a dataset: the layouts that are known, and what is in a folder."""

from collections import Counter
from itertools import chain
from pathlib import Path

from abaw.core.errors import DataError
from abaw.datasets.affwild2 import open_affwild2
from abaw.datasets.dataset import Dataset, Video
from abaw.datasets.folders import CROPS, RAW, find_folders
from abaw.datasets.lsd import TRAINING_FOLDER, VALIDATION_FOLDER, open_lsd
from abaw.datasets.vgaf import LABEL_FILES, open_vgaf


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
