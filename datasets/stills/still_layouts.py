"""Recognising a set of stills by its files."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from abaw.core.errors import DataError
from abaw.datasets.stills.affectnet import open_affectnet, open_small_affectnet
from abaw.datasets.stills.ferplus import open_ferplus
from abaw.datasets.stills.own_stills import open_class_folders, open_image_tables
from abaw.datasets.stills.rafdb import open_rafdb
from abaw.datasets.stills.still_files import folders_in
from abaw.datasets.stills.still_set import StillSet, check_set
from abaw.datasets.stills.unit_sets import open_bp4d, open_disfa, open_emotionet

SHOWN_NAMES = 5


@dataclass(frozen=True)
class StillLayout:
    """One layout of a set of stills.

    Attributes:
        open: reads the set under a root; None if it is not there. No image is opened.
        parts: files and folders by which it is known, for messages.
    """

    kind: str
    open: Callable[[Path], StillSet | None]
    parts: tuple[str, ...]


STILL_LAYOUTS = (
    StillLayout("AffectNet", open_affectnet, ("training.csv", "validation.csv", "Manually_Annotated_Images")),
    StillLayout("AffectNet, the small release", open_small_affectnet, ("train_set", "val_set")),
    StillLayout("RAF-DB", open_rafdb, ("EmoLabel/list_patition_label.txt", "Image/aligned")),
    StillLayout("FER+", open_ferplus, ("fer2013new.csv", "fer2013.csv")),
    StillLayout("DISFA", open_disfa, ("ActionUnit_Labels/SN001",)),
    StillLayout("BP4D", open_bp4d, ("AUCoding/F001_T1.csv",)),
    StillLayout("EmotioNet", open_emotionet, ("a list between tabs whose first row names AU 1 and so on",)),
    StillLayout("a table of images", open_image_tables, ("a .csv file whose first column is image",)),
    StillLayout("folders by class", open_class_folders, ("train/Happiness", "val/Happiness")),
)


def find_still_set(root: Path) -> StillSet | None:
    """The set of stills under a root, in the first layout that fits; None if there is none.

    Raises:
        DataError: a file of the set is broken.
    """
    found = (layout.open(root) for layout in STILL_LAYOUTS)
    return next((check_set(one) for one in found if one is not None), None)


def open_still_set(root: Path) -> StillSet:
    """The set of stills under a root.

    Raises:
        DataError: there is no such folder, nothing in it is known, or a file is broken.
    """
    if not root.is_dir():
        raise DataError(
            f"There is no folder {root} of still images. Give the folder of a set with --images NAME=FOLDER."
        )
    found = find_still_set(root)
    if found is None:
        raise DataError(_unknown(root))
    return found


def _unknown(root: Path) -> str:
    """A sentence on a folder that is no known set, with what is near."""
    for folder in folders_in(root):
        try:
            inner = find_still_set(folder)
        except DataError:
            continue
        if inner is not None:
            return f"{root} is no set of still images, but {folder} is {inner.kind}. Name that folder."
    for layout in STILL_LAYOUTS:
        there = [part for part in layout.parts if (root / part).exists() or (root / part.split("/")[0]).exists()]
        if there:
            return (
                f"{root} looks like {layout.kind}, which is known by {' and '.join(layout.parts)}, and not all of that is "
                "there. Copy the rest of the set."
            )
    names = sorted(path.name for path in root.iterdir())[:SHOWN_NAMES]
    kinds = ", ".join(layout.kind for layout in STILL_LAYOUTS)
    holds = f"it holds {', '.join(names)}" if names else "it is empty"
    return f"{root} is no set of still images that is known: {holds}. Known are {kinds}."
