"""Annotation files of the multi-task challenge: one file per split with the labels of all videos.

image,valence,arousal,expression,aus                                 five names for 16 columns
video/00001.jpg,0.1,-0.2,3,0,1,0,0,0,0,1,0,0,0,1,0                   a row for each annotated frame, in any order
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from abaw.datasets.dataset import Remark
from abaw.datasets.labels import check_header, check_values, fits, read_text
from abaw.errors import DataError
from abaw.tasks import MTL

FILES = {
    "train": ("training_set_annotations.txt", "train_set.txt"),
    "val": ("validation_set_annotations.txt", "validation_set.txt"),
}
CHALLENGE_FOLDERS = ("MTL_Challenge", "Multi_Task_Learning_Challenge")
FOLDERS = ("", "labels", *CHALLENGE_FOLDERS, *(f"labels/{folder}" for folder in CHALLENGE_FOLDERS))
HEADER = "image,valence,arousal,expression,aus"
N_COLUMNS = 1 + len(MTL.columns)
# A video of 9 hours at 30 frames a second; a number beyond is a mistake that would take the memory for all before it.
LAST_FRAME = 1_000_000
IMAGE = re.compile(r"([^./\\\0-\x1f][^/\\\0-\x1f]*)/0*([0-9]{1,7})\.(?:jpe?g|png)", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class MtlLabels:
    """The rows of one video in an annotation file.

    Attributes:
        numbers: (annotated,) int64 frame numbers from 1, ascending.
        values: (annotated, 15) float32 in the columns of `MTL`.
    """

    split: str
    video: str
    path: Path
    numbers: NDArray[np.int64]
    values: NDArray[np.float32]
    task: str = MTL.name

    def read(self) -> NDArray:
        """(rows, 15) float32; row i is frame i+1, frames that are not in the file hold `MTL.invalid_row`."""
        rows = np.tile(np.array(MTL.invalid_row, dtype=np.float32), (int(self.numbers[-1]), 1))
        rows[self.numbers - 1] = self.values
        return rows


def find_mtl_labels(root: Path) -> tuple[tuple[MtlLabels, ...], tuple[Remark, ...]]:
    """Labels in the annotation files under a root, and an error for each file that is not as it should be."""
    labels: list[MtlLabels] = []
    remarks = []
    for split, names in FILES.items():
        for path in (root / folder / name for folder in FOLDERS for name in names):
            if path.is_file():
                try:
                    labels += read_annotations(path, split)
                except DataError as error:
                    remarks.append(Remark(path.name, str(error)))
    return tuple(labels), tuple(remarks)


def read_annotations(path: Path, split: str) -> Iterator[MtlLabels]:
    """Parse and check an annotation file; gives the labels of each video, in the order of the videos' names.

    Raises:
        DataError: a header, an image name, a number of columns or a value that should not be, or an image that is there
            twice; names file and line.
    """
    header, _, body = read_text(path).partition("\n")
    check_header(path, header, HEADER)
    lines = body.rstrip().split("\n")
    if lines == [""]:
        raise DataError(f"{path} has a header and no rows. Copy it again.")
    cut = [line.partition(",") for line in lines]
    matches = [IMAGE.fullmatch(name) for name, _, _ in cut]
    values = _parse([rest for _, _, rest in cut])
    if values is None or not all(matches):
        raise _first_bad_line(path, lines)
    videos = [match[1] for match in matches if match]
    numbers = np.array([int(match[2]) for match in matches if match], dtype=np.int64)
    if numbers.min() < 1 or numbers.max() > LAST_FRAME:
        raise _first_bad_line(path, lines)
    names = sorted(set(videos))
    index_of = {name: index for index, name in enumerate(names)}
    index = np.array([index_of[video] for video in videos])
    order = np.lexsort((numbers, index))
    _check_once(path, lines, order, index, numbers)
    ends = np.searchsorted(index[order], np.arange(1, len(names)))
    parts = zip(names, np.split(order, ends), strict=True)
    return (MtlLabels(split, name, path, numbers[part], values[part]) for name, part in parts)


def _parse(texts: Sequence[str]) -> NDArray[np.float32] | None:
    """(rows, 15) values of the rows without their image; None if one is not as it should be."""
    if any(text.count(",") != len(MTL.columns) - 1 for text in texts):
        return None
    try:
        values = np.loadtxt(texts, delimiter=",", dtype=np.float64, ndmin=2, comments=None)
    except ValueError:
        return None
    return values.astype(np.float32) if fits(values, MTL).all() else None


def _check_once(path: Path, lines: list[str], order: NDArray, index: NDArray, numbers: NDArray) -> None:
    """No image may be there twice; `order` sorts by video and frame, and keeps equal ones in the order of the file."""
    same = (np.diff(index[order]) == 0) & (np.diff(numbers[order]) == 0)
    if same.any():
        at = int(np.argmax(same))
        first, again = (int(line) + 2 for line in order[at : at + 2])
        name = lines[again - 2].partition(",")[0]
        raise DataError(f"{path} line {again}: {name} is on line {first} already. Delete one of the two.")


def _first_bad_line(path: Path, lines: list[str]) -> DataError:
    for number, line in enumerate(lines, start=2):
        image, *values = line.split(",")
        if len(values) + 1 != N_COLUMNS:
            return DataError(
                f"{path} line {number}: {N_COLUMNS} columns are wanted (the image and {','.join(MTL.columns)}), found "
                f"{len(values) + 1}: {line.strip()[:60]!r}. Correct the line."
            )
        match = IMAGE.fullmatch(image)
        if not match or not 1 <= int(match[2]) <= LAST_FRAME:
            return DataError(
                f"{path} line {number}: the image should be <video>/<frame number>.jpg with a number from 1 to "
                f"{LAST_FRAME}, found {image[:60]!r}. Correct the line."
            )
        if wrong := check_values(values, MTL):
            return DataError(f"{path} line {number}: {wrong}. Correct the line.")
    return DataError(f"{path} cannot be read as rows of {HEADER}. Copy it again.")
