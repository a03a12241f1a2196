"""One array with the rows of all videos, and a table that says which video and frame each row is."""

import csv
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from abaw.errors import DataError
from abaw.exchange.frames import frame_number
from abaw.exchange.npy import map_array, read_rows
from abaw.exchange.rows import Rows, check_array, check_numbers, stamp, step_of
from abaw.names import MAX_FRAMES

COLUMNS = "`video` and `frame`, or `image` (video/00001.jpg)"
MAX_ROWS = 2**31 - 1


@dataclass
class RowIndex:
    """Rows of the array that are of one video, and their frame numbers; four bytes for each."""

    rows: array = field(default_factory=lambda: array("i"))
    frames: array = field(default_factory=lambda: array("i"))
    trouble: str = ""


@dataclass(frozen=True)
class IndexedRows:
    """A video as rows of an array. The rows may lie in any order."""

    name: str
    file: Path
    table: Path
    index: RowIndex

    def digest(self) -> str:
        """sha256 over the array and the table: a change in either is a change of all videos."""
        return stamp([self.file, self.table])

    @contextmanager
    def open(self) -> Iterator[Rows]:
        """Its rows, by frame number."""
        if self.index.trouble:
            raise DataError(self.index.trouble)
        head = map_array(self.file, str(self.file))
        frames = np.frombuffer(self.index.frames, dtype=np.int32)
        order = np.argsort(frames, kind="stable")
        numbers, rows = frames[order].astype(np.int64), np.frombuffer(self.index.rows, dtype=np.int32)[order]
        check_numbers(numbers, int(numbers.max(initial=0)), f"{self.table}, video {self.name!r}")
        step = step_of(head.shape[1:], head.dtype)

        def blocks() -> Iterator[NDArray]:
            for start in range(0, len(rows), step):
                yield read_rows(self.file, rows[start : start + step])

        yield Rows(numbers, int(numbers[-1]), head.shape[1:], head.dtype, blocks)


def find_indexed(file: Path, table: Path) -> list[IndexedRows]:
    """The videos of an array and its table.

    Raises:
        DataError: the two do not belong together, or are not as they should be; then no video can be trusted.
    """
    values = map_array(file, str(file))
    check_array(values, str(file))
    videos, n_rows = read_table(table)
    if n_rows != len(values):
        raise DataError(
            f"{table} has {n_rows} rows after its header and {file.name} has {len(values)}; row k of the one should be "
            "row k of the other. Make them anew together."
        )
    return [IndexedRows(name, file, table, index) for name, index in videos.items()]


def read_table(table: Path) -> tuple[dict[str, RowIndex], int]:
    """Rows by video, and the number of rows. What is wrong with one video's rows is kept with it.

    Raises:
        DataError: no columns that are known, or a row that is of no video.
    """
    videos: dict[str, RowIndex] = {}
    row = -1
    try:
        with table.open(encoding="utf-8-sig", newline="") as stream:
            lines = csv.reader(stream)
            parse, n_columns = _parser(table, next(lines, []))
            for row, cells in enumerate(lines):
                if len(cells) < n_columns or row > MAX_ROWS:
                    raise DataError(f"{table} line {row + 2}: a row of {len(cells)} cells. Correct the line.")
                video, text = parse(cells)
                _add(videos.setdefault(video, RowIndex()), row, text, f"{table} line {row + 2}")
    except OSError as error:
        raise DataError(
            f"{table} cannot be read ({error.strerror}). Copy it again, or see that you may read it."
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table} cannot be read as a table ({error}). Save it as CSV in UTF-8.") from error
    return videos, row + 1


def _add(index: RowIndex, row: int, text: str, place: str) -> None:
    if index.trouble:
        return
    try:
        frame = frame_number(text, place)
        if not 1 <= frame <= MAX_FRAMES:
            raise DataError(f"{place}: {frame} is not a frame number from 1 to {MAX_FRAMES:,}. Correct it.")
        index.rows.append(row)
        index.frames.append(frame)
    except DataError as error:
        index.trouble = str(error)


def _parser(table: Path, header: Sequence[str]) -> tuple[Callable[[Sequence[str]], tuple[str, str]], int]:
    """What takes video and frame out of the cells of a row, and how many cells it needs."""
    names = [name.strip().lower() for name in header]
    if "video" in names and "frame" in names:
        video, frame = names.index("video"), names.index("frame")
        return lambda cells: (cells[video].strip(), cells[frame].strip()), max(video, frame) + 1
    if "image" in names:
        image = names.index("image")
        return lambda cells: _from_image(cells[image].strip()), image + 1
    raise DataError(f"{table} should have the columns {COLUMNS}; found {', '.join(names)[:60]!r}. Add a header.")


def _from_image(image: str) -> tuple[str, str]:
    """Video and frame number of `video/00001.jpg`."""
    video, _, file = image.rpartition("/")
    return video, file.partition(".")[0]
