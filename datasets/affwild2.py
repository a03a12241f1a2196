"""The official layout of Aff-Wild2: crops by video, label files by challenge, and video files.

cropped_aligned/<video>/00001.jpg      or raw/images/<video>/00001.jpg
<challenge>/Train_Set/<video>.txt      also Validation_Set
videos/<base>.mp4                      `<base>_left` and `<base>_right` share a file

`abaw.datasets.folders` lists other names and locations of these folders; `abaw.datasets.mtl` reads the multi-task labels, and
`abaw.datasets.label_tables` tables of valence and arousal where there are no label files of these.
"""

from pathlib import Path

from abaw.core.tasks import VA
from abaw.datasets.dataset import Dataset, Labels
from abaw.datasets.folders import CROPS, RAW, find_crop_folders, find_folders, find_video_files
from abaw.datasets.frames import Remark
from abaw.datasets.image_folders import CropFolder
from abaw.datasets.label_tables import find_label_tables
from abaw.datasets.labels import find_labels
from abaw.datasets.layouts import Layout
from abaw.datasets.video_files import People, video_file_of


def open_affwild2(root: Path, fps: float | None = None) -> Dataset | None:
    """The videos of Aff-Wild2 under a root, with the labels of its single-task challenges; None if both are missing.

    Raises:
        DataError: crops or files of one video are in two folders.
    """
    folders, people = find_folders(root), People(root)
    paths = find_crop_folders(folders)
    files = find_video_files(root, folders)
    videos = tuple(CropFolder(name, paths[name], video_file_of(name, files, people)) for name in sorted(paths))
    labels: tuple[Labels, ...] = tuple(find_labels(folders.labels))
    remarks: tuple[Remark, ...] = ()
    if not any(label.task == VA.name for label in labels):
        of_tables, remarks = find_label_tables(folders.mtl)
        labels += of_tables
    return Dataset(root, videos, labels, fps, remarks) if videos or labels or remarks else None


LAYOUT = Layout(open_affwild2, f"Aff-Wild2, with crops in {CROPS}/<video>/00001.jpg or {'/'.join(RAW)}/")
