"""The layout of EmotiW's engagement: clips of people in front of a screen, with a number from 0 to 1 for each.

Train/<clip>.mp4     also Validation, Test
Train/<clip>.txt     0, .33, .66 or 1, next to the clip; or labels/Train/<clip>.txt
"""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from abaw.core.errors import DataError, did_you_mean
from abaw.core.names import check_name, composed
from abaw.core.tasks import TASKS
from abaw.datasets.clips import Clip
from abaw.datasets.dataset import Dataset
from abaw.datasets.folders import files_in, near_split, split_of, subfolders
from abaw.datasets.frames import Remark, Video
from abaw.datasets.labels import LabelFile, check_values
from abaw.datasets.layouts import Layout
from abaw.datasets.video_files import SUFFIXES
from abaw.media.text_files import read_lines

TASK, LABELS, SUFFIX = "engagement", "labels", ".txt"


def read_engagement(path: Path) -> NDArray:
    """The label of a clip: (1, 1) float32.

    Raises:
        DataError: the file does not hold one number from 0 to 1.
    """
    lines = read_lines(path)
    text = lines[0].strip() if len(lines) == 1 else ""
    if wrong := check_values([text], TASKS[TASK]):
        raise DataError(f"{path}: {wrong}. Correct the file.")
    return np.array([[float(text)]], dtype=np.float32)


def open_engagement(root: Path, fps: float | None = None) -> Dataset | None:
    """The clips and labels under a root; None without clips that have a file with a number."""
    files = list(_files(root, SUFFIXES))
    splits = {video: split for split, video, _ in files}
    labels = [
        LabelFile(TASK, split, video, path, read_engagement)
        for home in (root, root / LABELS)
        for split, video, path in _files(home, [SUFFIX])
        if splits.get(video) == split
    ]
    named = {label.path for label in labels}
    remarks = list(_misnamed(root, splits, named))
    if not labels:
        return Dataset(root, (), (), fps, tuple(remarks)) if remarks else None
    clips: dict[str, Video] = {}
    for _, video, path in files:
        if video in clips:
            remarks.append(Remark(video, f"{path} is not used: {clips[video].path} has the same name. Rename one."))
        else:
            clips[check_name(video, "video")] = Clip(video, path, path)
    return Dataset(root, tuple(clips.values()), tuple(labels), fps, tuple(remarks))


def _misnamed(root: Path, splits: Mapping[str, str], named: Collection[Path]) -> Iterator[Remark]:
    """An error for each folder with labels that are named like no clip, and for one that is named like no split.

    Args:
        splits: of the clips, by name.
        named: the labels that are named like a clip of their split.
    """
    alone: dict[Path, list[Path]] = {}
    for home in (root, root / LABELS):
        for _, _, path in _files(home, [SUFFIX]):
            if splits and path not in named and _is_label(path):
                alone.setdefault(path.parent, []).append(path)
    for folder, paths in alone.items():
        clips = [clip for clip, split in splits.items() if split == split_of(folder.name)]
        free = [clip for clip in clips if clip not in {composed(path.stem) for path in named}] or clips
        near = did_you_mean(paths[0].stem, free) or (f"The first clip without a label is {free[0]}. " if free else "")
        which = f"{paths[0]} is the label of no clip"
        if len(paths) > 1:
            which = f"{paths[0]} and {len(paths) - 1:,} more in that folder are the labels of no clip"
        yield Remark(paths[0].relative_to(root).as_posix(), f"{which}. {near}Name labels like their clips.")
    for folder in subfolders(root):
        if named and (near := near_split(folder.name)) and any(files_in(folder, SUFFIXES)):
            yield Remark(folder.name, f"{folder} is the folder of no split. {near}Rename it.")


def _is_label(path: Path) -> bool:
    """True if a file holds one number from 0 to 1 and nothing else."""
    try:
        read_engagement(path)
    except DataError:
        return False
    return True


def _files(root: Path, suffixes: "tuple[str, ...] | list[str]") -> Iterator[tuple[str, str, Path]]:
    """Split, name and path of the files of folders that are named like a split."""
    for folder in subfolders(root):
        if split := split_of(folder.name):
            for path in files_in(folder, suffixes):
                yield split, composed(path.stem), path


LAYOUT = Layout(open_engagement, f"EmotiW's engagement, with Train/<clip>.mp4 and Train/<clip>{SUFFIX}")
