"""Tables with the valence and arousal of all videos of a split, as Situ-RUCAIM3 keep them.

train.csv, val.csv                               in the data folder, or in a folder such as annotations/
,main_idx,vn,frame_idx,img_path,valence,arousal
0,314/00001,314,1,314/00002,0.0,0.038            frame 1, counted from 1; its nearest crop is that of frame 2

They count only where there are no label files of the official layout.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from abaw.core.errors import AbawError, DataError
from abaw.core.names import MAX_FRAMES, check_last_frame, check_name, composed
from abaw.core.tasks import VA
from abaw.datasets.folders import SPLITS, files_in, folded
from abaw.datasets.frames import Remark
from abaw.datasets.labels import check_values, fits
from abaw.media.text_files import open_text, read_blocks

VIDEO, FRAME = "vn", "frame_idx"
COLUMNS = ("main_idx", VIDEO, FRAME, *VA.columns)  # by which a table is known


@dataclass(frozen=True, eq=False)
class TableLabels:
    """The rows of one video in a table.

    Attributes:
        numbers: (annotated,) int64 frame numbers from 1, ascending.
        values: (annotated, 2) float32 in the columns of `VA`.
    """

    split: str
    video: str
    path: Path
    numbers: NDArray[np.int64]
    values: NDArray[np.float32]
    task: str = VA.name

    def read(self) -> NDArray:
        """(rows, 2) float32; row i is frame i+1, and frames that are not in the table have `VA.invalid_row`."""
        rows = np.tile(np.array(VA.invalid_row, dtype=np.float32), (int(self.numbers[-1]), 1))
        rows[self.numbers - 1] = self.values
        return rows


def find_label_tables(folders: Iterable[Path]) -> tuple[tuple[TableLabels, ...], tuple[Remark, ...]]:
    """Labels in the tables of folders, and an error for each invalid table."""
    labels: list[TableLabels] = []
    remarks = []
    for path in chain.from_iterable(files_in(folder, [".csv"]) for folder in folders):
        split = split_of_table(path)
        if split and is_label_table(path):
            try:
                labels += read_label_table(path, split)
            except AbawError as error:
                remarks.append(Remark(path.name, str(error)))
    return tuple(labels), tuple(remarks)


def split_of_table(path: Path) -> str:
    """The split that the name of a table stands for; empty for other names."""
    return next((split for split, names in SPLITS.items() if names.fullmatch(folded(path.stem))), "")


def is_label_table(path: Path) -> bool:
    """True if the first line of a file names the columns of a table of labels."""
    try:
        with open_text(path) as stream:
            return set(COLUMNS) <= {*_cells(stream.readline(1000).strip())}
    except (DataError, UnicodeError):
        return False


def read_label_table(path: Path, split: str) -> Iterator[TableLabels]:
    """Parse and check a table; yields the labels of each video, in the order of names.

    Raises:
        DataError: an invalid row, or a frame that is listed twice; the message names file and line.
    """
    blocks = read_blocks(path)
    header, *lines = next(blocks, [""])
    names = _cells(header)
    columns = [names.index(name) for name in (VIDEO, FRAME, *VA.columns)]
    index_of: dict[str, int] = {}
    videos, parts, number = [], [], 2
    for block in chain([lines], blocks):
        if block:
            rows = _parse(block, columns, len(names))
            if rows is None:
                raise _first_bad_line(path, block, number, names)
            texts = [line.split(",", columns[0] + 1)[columns[0]].strip() for line in block]
            videos += [index_of.setdefault(text, len(index_of)) for text in texts]
            parts.append(rows)
            number += len(block)
    if not parts:
        raise DataError(f"{path} has a header but no rows. Copy it again.")
    yield from _by_video(path, split, list(index_of), np.array(videos), np.concatenate(parts))


def _by_video(
    path: Path, split: str, names: Sequence[str], videos: NDArray[np.int64], rows: NDArray[np.float64]
) -> Iterator[TableLabels]:
    """Sort the rows (frame number, valence, arousal) by video, of which `videos` has the index, and frame."""
    numbers = rows[:, 0].astype(np.int64)
    order = np.lexsort((numbers, videos))
    ends = np.searchsorted(videos[order], np.arange(1, len(names)))
    for name, part in sorted(zip(names, np.split(order, ends), strict=True)):
        if (twice := np.flatnonzero(np.diff(numbers[part]) == 0)).size:
            line = int(part[twice[0] + 1]) + 2
            raise DataError(
                f"{path} line {line}: frame {numbers[part][twice[0]]} of video {name} is listed twice. Delete one of the lines."
            )
        check_last_frame(int(numbers[part][-1]), len(part), f"{path} line {int(part[-1]) + 2}: {name}")
        yield TableLabels(
            split, check_name(composed(name), "video"), path, numbers[part], rows[part, 1:].astype(np.float32)
        )


def _cells(header: str) -> list[str]:
    return [cell.strip().lower() for cell in header.split(",")]


def _parse(lines: list[str], columns: Sequence[int], n_columns: int) -> NDArray[np.float64] | None:
    """(rows, 3) frame numbers, valence and arousal; None if a row is invalid."""
    if any(line.count(",") != n_columns - 1 for line in lines):
        return None
    try:
        rows = np.loadtxt(lines, delimiter=",", dtype=np.float64, ndmin=2, comments=None, usecols=columns[1:])
    except ValueError:
        return None
    numbers = rows[:, 0]
    is_frame = (numbers >= 1) & (numbers <= MAX_FRAMES) & (numbers == np.floor(numbers))
    return rows if is_frame.all() and fits(rows[:, 1:], VA).all() else None


def _first_bad_line(path: Path, lines: list[str], first: int, names: Sequence[str]) -> DataError:
    for number, line in enumerate(lines, start=first):
        cells = line.split(",")
        if len(cells) != len(names):
            return DataError(
                f"{path} line {number}: {len(names)} cells expected, found {len(cells)}: {line[:60]!r}. Correct the line."
            )
        frame = cells[names.index(FRAME)].strip()
        digits = frame.removesuffix(".0")
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 18 and 1 <= int(digits) <= MAX_FRAMES):
            return DataError(
                f"{path} line {number}: `{FRAME}` should be a frame number from 1 to {MAX_FRAMES:,}, found {frame[:30]!r}. "
                "Correct the line."
            )
        if wrong := check_values([cells[names.index(name)] for name in VA.columns], VA):
            return DataError(f"{path} line {number}: {wrong}. Correct the line.")
    return DataError(f"{path} cannot be read as a table of {', '.join(COLUMNS)}. Copy it again.")
