"""Annotation files of the multi-task challenge: one file per split with the labels of all videos.

image,valence,arousal,expression,aus                                 five names for 16 columns
video/00001.jpg,0.1,-0.2,3,0,1,0,0,0,0,1,0,0,0,1,0                   a row for each annotated frame, in any order

The official files list some images twice, sometimes with different labels; every row counts.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from abaw.core.doubles import Doubles
from abaw.core.errors import DataError
from abaw.core.names import check_last_frame, composed
from abaw.core.tasks import MTL
from abaw.datasets.dataset import Dataset, Labels
from abaw.datasets.folders import LABEL_SUFFIX, files_in, find_folders
from abaw.datasets.frames import Remark
from abaw.datasets.labels import check_header, check_values, fits
from abaw.datasets.layouts import Layout
from abaw.media.text_files import read_lines

FILES = {
    "train": ("training_set_annotations.txt", "train_set.txt"),
    "val": ("validation_set_annotations.txt", "validation_set.txt"),
}
HEADER = "image,valence,arousal,expression,aus"
N_COLUMNS = 1 + len(MTL.columns)
# 9 hours at 30 frames a second; a larger number is a mistake, and would need memory for all frames before it
LAST_FRAME = 1_000_000
IMAGE = re.compile(r"([^./\\\0-\x1f][^/\\\0-\x1f]*)/0*([0-9]{1,7})\.(?:jpe?g|png)", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class MtlLabels:
    """The rows of one video in an annotation file.

    Attributes:
        numbers: (annotated,) int64 frame numbers from 1, ascending; twice for a frame that is listed twice.
        values: (annotated, 15) float32 in the columns of `MTL`; rows of one frame are in the order of the file.
    """

    split: str
    video: str
    path: Path
    numbers: NDArray[np.int64]
    values: NDArray[np.float32]
    task: str = MTL.name

    @property
    def is_double(self) -> NDArray[np.bool_]:
        """(annotated,) True where a row is not the first one of its frame."""
        return np.diff(self.numbers, prepend=0) == 0

    def read(self) -> NDArray:
        """(rows, 15) float32; row i is frame i+1, and frames that are not in the file have `MTL.invalid_row`.

        The first row of a frame counts; for further ones see `doubles`.
        """
        rows = np.tile(np.array(MTL.invalid_row, dtype=np.float32), (int(self.numbers[-1]), 1))
        is_first = ~self.is_double
        rows[self.numbers[is_first] - 1] = self.values[is_first]
        return rows

    def doubles(self) -> Doubles | None:
        """All rows of frames after their first ones; None if no frame is listed twice."""
        is_double = self.is_double
        return Doubles(self.numbers[is_double] - 1, self.values[is_double]) if is_double.any() else None


def doubles_of(labels: Labels) -> Doubles | None:
    """Further rows of frames that are listed twice, which happens only in annotation files."""
    return labels.doubles() if isinstance(labels, MtlLabels) else None


def open_mtl(root: Path, fps: float | None = None) -> Dataset | None:
    """The labels of the multi-task challenge under a root, without videos; None if there is no annotation file."""
    labels, remarks = _find_labels(find_folders(root).mtl)
    return Dataset(root, (), labels, fps, remarks) if labels or remarks else None


LAYOUT = Layout(open_mtl)


def _find_labels(folders: Iterable[Path]) -> tuple[tuple[MtlLabels, ...], tuple[Remark, ...]]:
    """Labels in the annotation files of folders; remarks on invalid files (errors) and on images listed twice."""
    labels: list[MtlLabels] = []
    remarks = []
    for path in chain.from_iterable(files_in(folder, [LABEL_SUFFIX]) for folder in folders):
        split = next((split for split, names in FILES.items() if path.name.lower() in names), "")
        if not split:
            continue
        try:
            of_file = list(read_annotations(path, split))
        except DataError as error:
            remarks.append(Remark(path.name, str(error)))
            continue
        labels += of_file
        if sentence := describe_doubles(path.name, of_file):
            remarks.append(Remark(path.name, sentence, is_error=False))
    return tuple(labels), tuple(remarks)


def describe_doubles(name: str, labels: Sequence[MtlLabels]) -> str:
    """A sentence about images that a file lists more than once; empty if no image is repeated."""
    n_images = n_rows = n_different = 0
    for video in labels:
        starts = np.flatnonzero(~video.is_double)
        counts = np.diff(starts, append=len(video.numbers))
        differs = (video.values != np.repeat(video.values[starts], counts, axis=0)).any(axis=1)
        n_images += int((counts > 1).sum())
        n_rows += int(counts[counts > 1].sum())
        n_different += int(np.logical_or.reduceat(differs, starts).sum())
    if not n_images:
        return ""
    images = f"{n_images:,} image" + "s" * (n_images > 1)
    often = "twice: both rows count" if n_rows == 2 * n_images else f"twice or more often: all {n_rows:,} rows count"
    difference = f"{n_different:,} of them with different labels" if n_different else "all with the same labels"
    return f"{name} lists {images} {often}, {difference}"


def read_annotations(path: Path, split: str) -> Iterator[MtlLabels]:
    """Parse and check an annotation file; yields the labels of each video, in the order of names.

    Raises:
        DataError: an invalid header, image name, number of columns or value; the message names file and line.
    """
    header, *lines = read_lines(path) or [""]
    check_header(path, header, HEADER)
    if not lines:
        raise DataError(f"{path} has a header but no rows. Copy it again.")
    cut = [line.partition(",") for line in lines]
    matches = [IMAGE.fullmatch(name.strip()) for name, _, _ in cut]
    values = _parse([values_text for _, _, values_text in cut])
    if values is None or not all(matches):
        raise _first_bad_line(path, lines)
    videos = [match[1] for match in matches if match]
    numbers = np.array([int(match[2]) for match in matches if match], dtype=np.int64)
    if numbers.min() < 1 or numbers.max() > LAST_FRAME:
        raise _first_bad_line(path, lines)
    name_of = {video: composed(video) for video in set(videos)}
    names = sorted(set(name_of.values()))
    index_of = {name: index for index, name in enumerate(names)}
    index = np.array([index_of[name_of[video]] for video in videos])
    order = np.lexsort((numbers, index))  # stable: rows of one frame stay in file order
    ends = np.searchsorted(index[order], np.arange(1, len(names)))
    parts = list(zip(names, np.split(order, ends), strict=True))
    for name, part in parts:
        check_last_frame(int(numbers[part[-1]]), len(part), f"{path} line {int(part[-1]) + 2}: {name}")
    return (MtlLabels(split, name, path, numbers[part], values[part]) for name, part in parts)


def _parse(texts: Sequence[str]) -> NDArray[np.float32] | None:
    """(rows, 15) values of rows without their images; None if one is invalid."""
    if any(text.count(",") != len(MTL.columns) - 1 for text in texts):
        return None
    try:
        values = np.loadtxt(texts, delimiter=",", dtype=np.float64, ndmin=2, comments=None)
    except ValueError:
        return None
    return values.astype(np.float32) if fits(values, MTL).all() else None


def _first_bad_line(path: Path, lines: list[str]) -> DataError:
    for number, line in enumerate(lines, start=2):
        image, *values = line.split(",")
        if len(values) + 1 != N_COLUMNS:
            return DataError(
                f"{path} line {number}: {N_COLUMNS} columns expected (the image and {','.join(MTL.columns)}), found "
                f"{len(values) + 1}: {line.strip()[:60]!r}. Correct the line."
            )
        match = IMAGE.fullmatch(image.strip())
        if not match or not 1 <= int(match[2]) <= LAST_FRAME:
            return DataError(
                f"{path} line {number}: the image should be <video>/<frame number>.jpg with a number from 1 to "
                f"{LAST_FRAME}, found {image[:60]!r}. Correct the line."
            )
        if wrong := check_values(values, MTL):
            return DataError(f"{path} line {number}: {wrong}. Correct the line.")
    return DataError(f"{path} cannot be read as rows of {HEADER}. Copy it again.")
