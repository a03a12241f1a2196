"""The layout of DVD, violence in whole scenes: a folder of frames for each video, and a table of its labels.

frames/Training/0001/00001.jpg          also Validation, Test; whole pictures
labels/Training/0001.csv                `Frame_Number,Label` in line 1; frames from 1, 1 for violence

A name that two splits have gets the split in front of it: `train-0001`, `val-0001`; test videos keep theirs.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from abaw.core.errors import DataError
from abaw.core.names import MAX_FRAMES, check_last_frame, check_name, composed
from abaw.datasets.dataset import Dataset
from abaw.datasets.folders import TEST, files_in, near_split, split_of, subfolders
from abaw.datasets.frames import Remark, Video
from abaw.datasets.labels import LabelFile, check_header
from abaw.datasets.layouts import Layout
from abaw.datasets.media_search import SceneFolder
from abaw.media.text_files import read_lines

TASK = "vd"
FRAMES, LABELS, HEADER = "frames", "labels", "Frame_Number,Label"


def read_scene(path: Path) -> NDArray:
    """The labels of a video: (rows, 1) int8, 0 or 1 for frame i+1, -1 for a frame that is not listed.

    Raises:
        DataError: a wrong header or line; names file and line.
    """
    header, *lines = read_lines(path) or [""]
    check_header(path, header, HEADER)
    labels: dict[int, int] = {}
    for number, line in enumerate(lines, start=2):
        frame, _, label = (cell.strip() for cell in line.partition(","))
        is_frame = frame.isascii() and frame.isdigit() and len(frame) < 12 and 1 <= int(frame) <= MAX_FRAMES
        if not is_frame or label not in ("0", "1", "-1"):
            raise DataError(
                f"{path} line {number}: expected a frame number from 1 and 0 or 1, found {line.strip()[:60]!r}. "
                "Correct the line."
            )
        if int(frame) in labels:
            raise DataError(f"{path} line {number}: frame {frame} is listed twice. Delete one of the lines.")
        labels[int(frame)] = int(label)
    if not labels:
        raise DataError(f"{path} has a header but no rows. Copy it again.")
    check_last_frame(max(labels), len(labels), str(path))
    rows = np.full((max(labels), 1), -1, dtype=np.int8)
    rows[np.array(list(labels)) - 1, 0] = list(labels.values())
    return rows


def open_violence(root: Path, fps: float | None = None) -> Dataset | None:
    """The videos and labels of DVD under a root; None if a folder of both is missing."""
    by_split = {split_of(folder.name): folder for folder in subfolders(root / FRAMES)}
    label_folders = {split_of(folder.name): folder for folder in subfolders(root / LABELS)}
    misspelt = [*_misspelt(root, FRAMES), *_misspelt(root, LABELS)]
    if not by_split.keys() & {"train", "val", TEST} or not label_folders.keys() & {"train", "val"}:
        homes = {remark.about.partition("/")[0] for remark in misspelt}
        homes |= {home for home, splits in ((FRAMES, by_split), (LABELS, label_folders)) if any(splits)}
        return Dataset(root, (), (), fps, tuple(misspelt)) if misspelt and homes == {FRAMES, LABELS} else None
    paths = {
        (split, composed(path.name)): path for split, folder in by_split.items() if split for path in subfolders(folder)
    }
    labelled = {
        (split, composed(path.stem)): path
        for split, folder in label_folders.items()
        if split
        for path in files_in(folder, [".csv"])
    }
    counts = Counter(name for _, name in {*paths, *labelled})

    def name_of(split: str, name: str) -> str:
        return check_name(f"{split}-{name}" if counts[name] > 1 and split != TEST else name, "video")

    videos: list[Video] = [SceneFolder(name_of(*key), path, None) for key, path in sorted(paths.items())]
    labels = [LabelFile(TASK, key[0], name_of(*key), path, read_scene) for key, path in sorted(labelled.items())]
    n_alone = len(paths.keys() - labelled.keys() - {key for key in paths if key[0] == TEST})
    remarks = [Remark(FRAMES, f"{n_alone} videos of {FRAMES}/ have no labels", is_error=False)] if n_alone else []
    return Dataset(root, tuple(videos), tuple(labels), fps, (*misspelt, *remarks))


def _misspelt(root: Path, home: str) -> Iterator[Remark]:
    """An error for each folder whose name is like that of a split."""
    for folder in subfolders(root / home):
        if near := near_split(folder.name):
            yield Remark(f"{home}/{folder.name}", f"{folder} is the folder of no split. {near}Rename it.")


LAYOUT = Layout(open_violence, f"DVD (vd), with {FRAMES}/Training/<video>/00001.jpg and {LABELS}/Training/<video>.csv")
