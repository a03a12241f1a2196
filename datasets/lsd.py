"""The layout of the challenge on learning from synthetic data: images by class, without a time axis.

training_set_synthetic_images/<CLASS>/*.jpg     split train
validation_set_real_images/<CLASS>/*.jpg        split val
test_set_real_images/*.jpg                      images to predict

The images of a class in a split are one "video", such as `train-anger`: its rows are the images in natural order of their
names, all labelled with the class of the folder. The test images are one video without labels.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from abaw.core.tasks import LSD, LSD_CLASSES
from abaw.datasets.crops import count_stills, has_stills
from abaw.datasets.dataset import Dataset
from abaw.datasets.frames import Remark
from abaw.datasets.image_folders import Stills
from abaw.datasets.layouts import Layout

TRAINING_FOLDER, VALIDATION_FOLDER = "training_set_synthetic_images", "validation_set_real_images"
SPLITS = {"train": TRAINING_FOLDER, "val": VALIDATION_FOLDER}
TEST_FOLDER, TEST_VIDEO = "test_set_real_images", "test"
MISSPELT = {"angrer": "Anger", "angere": "Anger"}  # in the official release
CLASS_OF = {name.lower(): name for name in LSD_CLASSES} | MISSPELT  # by the name of a folder in lower case


@dataclass(frozen=True)
class ClassLabels:
    """The labels of the images in one class folder, `path`."""

    task: str
    split: str
    video: str
    path: Path
    class_index: int

    def read(self) -> NDArray:
        """(images, 1) int8 with the class in every row."""
        n_images = count_stills(self.path)
        return np.full((n_images, 1), self.class_index, dtype=np.int8)


def open_lsd(root: Path, fps: float | None = None) -> Dataset | None:
    """The class folders and test images under a root, as videos; None if both are missing.

    Folders of unknown classes, and several folders of one class, are left out with an error in the remarks; classes
    without images get a remark that is not an error.

    Args:
        root: the folder that contains the folders of the splits.
        fps: not used, since the images have no time axis.
    """
    test = root / TEST_FOLDER
    if not any(folder.is_dir() for folder in (*(root / name for name in SPLITS.values()), test)):
        return None
    videos, labels, remarks = [], [], []
    for split, folder in SPLITS.items():
        by_class, unknown = _class_folders(root / folder)
        remarks += unknown
        for index, name in enumerate(LSD_CLASSES):
            video, paths = f"{split}-{name.lower()}", by_class.get(name, [])
            if len(paths) == 1 and has_stills(paths[0]):
                videos.append(Stills(video, paths[0]))
                labels.append(ClassLabels(LSD.name, split, video, paths[0], index))
            else:
                remarks.append(_why_not(root / folder, video, name, paths))
    if test.is_dir() and has_stills(test):
        videos.append(Stills(TEST_VIDEO, test))
    return Dataset(root, tuple(videos), tuple(labels), fps, tuple(remarks))


def _class_folders(folder: Path) -> tuple[dict[str, list[Path]], list[Remark]]:
    """Folders by class, and an error for each folder of an unknown class; hidden folders are skipped."""
    by_class: dict[str, list[Path]] = {}
    unknown = []
    for path in _visible_folders(folder):
        name = CLASS_OF.get(path.name.lower())
        if name is not None:
            by_class.setdefault(name, []).append(path)
            continue
        class_names = ", ".join(class_name.upper() for class_name in LSD_CLASSES)
        sentence = f"{path} is not the folder of a class. The classes are {class_names}; rename or remove it."
        unknown.append(Remark(f"{folder.name}/{path.name}", sentence))
    return by_class, unknown


def _visible_folders(folder: Path) -> Iterator[Path]:
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    return (path for path in paths if path.is_dir() and not path.name.startswith("."))


def _why_not(folder: Path, video: str, name: str, paths: list[Path]) -> Remark:
    """A remark about a class without images or with several folders."""
    if len(paths) < 2:
        where = paths[0].name if paths else name.upper()
        return Remark(video, f"no {'images in' if paths else 'folder'} {folder.name}/{where}", is_error=False)
    names = " and ".join(path.name for path in paths)
    return Remark(video, f"{folder} has {len(paths)} folders of the class {name}: {names}. Merge them into one.")


LAYOUT = Layout(open_lsd, f"LSD, with images in {TRAINING_FOLDER}/<CLASS>/ and {VALIDATION_FOLDER}/<CLASS>/")
