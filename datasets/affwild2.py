"""The official layout of Aff-Wild2: crops by video, label files by challenge, video files; and which layouts there are.

cropped_aligned/<video>/00001.jpg      or raw/images/<video>/00001.jpg
<challenge>/Train_Set/<video>.txt      also Validation_Set
training_set_annotations.txt           multi-task labels of all videos, see `abaw.datasets.mtl`
videos/<base>.mp4                      `<base>_left` and `<base>_right` share a file

`abaw.datasets.folders` tells what other names these folders may have, and where they may lie.
"""

from pathlib import Path

from abaw.datasets.dataset import Dataset, Labels, Video
from abaw.datasets.folders import find_crop_folders, find_folders, find_video_files
from abaw.datasets.labels import find_labels
from abaw.datasets.mtl import find_mtl_labels
from abaw.datasets.video_files import People, video_file_of


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
