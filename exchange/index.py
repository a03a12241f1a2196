"""One array with the rows of all videos, and a table with the video and frame of each row."""

import csv
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from abaw.core.errors import DataError
from abaw.core.names import MAX_FRAMES, composed
from abaw.exchange.npy import map_array, read_rows
from abaw.exchange.source_rows import Rows, check_array, check_numbers, stamp, step_of
from abaw.media.text_files import BLANK, open_text

COLUMNS = "`video` and `frame`, or `image` (video/00001.jpg)"
VIDEO_AND_FRAME, IMAGE = ("video", "frame"), ("image",)
DELIMITERS = (",", ";", "\t")
MAX_ROWS = 2**31 - 1


@dataclass
class RowIndex:
    """The rows of one video in the array, their frame numbers (four bytes each), and the folder of its images."""

    rows: array = field(default_factory=lambda: array("i"))
    frames: array = field(default_factory=lambda: array("i"))
    trouble: str = ""
    home: str = ""


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
        DataError: the two do not match, or one is invalid; then no video can be trusted.
    """
    values = map_array(file, str(file))
    check_array(values, str(file))
    videos, n_rows = read_table(table)
    if n_rows != len(values):
        raise DataError(
            f"{table} has {n_rows} rows after its header, but {file.name} has {len(values)}; row k of the table "
            "should describe row k of the array. Write both again, together."
        )
    return [IndexedRows(name, file, table, index) for name, index in videos.items()]


def read_table(table: Path) -> tuple[dict[str, RowIndex], int]:
    """Rows by video, and the number of rows. An error in one video's rows is kept with that video.

    Raises:
        DataError: no known columns, a blank line between rows, or a row without a video.
    """
    videos: dict[str, RowIndex] = {}
    n_rows = blank = 0
    try:
        with open_text(table) as stream:
            form = _find_form(table, stream.readline())
            lines = csv.reader(stream, delimiter=form.delimiter, skipinitialspace=True)
            for cells in lines:
                number = lines.line_num + 1
                if not "".join(cells).strip(BLANK):
                    blank = blank or number
                    continue
                if blank:
                    raise DataError(f"{table} line {blank} is blank but rows follow. Delete it, or restore its row.")
                _take_row(videos, n_rows, cells, form, f"{table} line {number}")
                n_rows += 1
    except (UnicodeError, csv.Error) as error:
        raise DataError(f"{table} cannot be read as a table ({error}). Save it as CSV in UTF-8.") from error
    return videos, n_rows


@dataclass(frozen=True)
class Form:
    """The delimiter of a table, and its columns with video and frame, or with the image."""

    delimiter: str
    columns: tuple[int, ...]
    names: tuple[str, ...]


def _find_form(table: Path, header: str) -> Form:
    for delimiter in DELIMITERS:
        cells = next(csv.reader([header], delimiter=delimiter, skipinitialspace=True), [])
        names = [cell.strip(BLANK).lower() for cell in cells]
        for columns in (VIDEO_AND_FRAME, IMAGE):
            if set(columns) <= set(names):
                return Form(delimiter, tuple(names.index(name) for name in columns), columns)
    raise DataError(
        f"{table} should have the columns {COLUMNS}, separated by commas; line 1 is {header.strip()[:60]!r}. Add a header."
    )


def _take_row(videos: dict[str, RowIndex], row: int, cells: Sequence[str], form: Form, location: str) -> None:
    """Note the video and the frame of a row.

    Raises:
        DataError: the row has none.
    """
    if len(cells) <= max(form.columns) or row > MAX_ROWS:
        shown = form.delimiter.join(cells)[:60]
        raise DataError(
            f"{location}: the row has {len(cells)} cells and lacks `{form.names[-1]}`: {shown!r}. Correct it."
        )
    texts, home = [cells[column].strip(BLANK) for column in form.columns], ""
    if form.names == IMAGE:
        folder, _, file = texts[0].replace("\\", "/").rpartition("/")
        video, home = _video_of(folder)
        text = file.partition(".")[0]
        if not video:
            raise DataError(
                f"{location}: `image` should be <video>/00001.jpg, found {texts[0][:60]!r}. Correct the cell."
            )
    else:
        video, text = composed(texts[0]), texts[1]
    index = videos.setdefault(video, RowIndex(home=home))
    frame = int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else 0
    if index.home != home:
        index.trouble = index.trouble or (
            f"{location}: `image` is in {home}, others of video {video!r} are in {index.home}. Give each video its own name."
        )
    elif 1 <= frame <= MAX_FRAMES:
        index.rows.append(row)
        index.frames.append(frame)
    else:
        index.trouble = index.trouble or (
            f"{location}: `{form.names[-1]}` is {texts[-1][:60]!r}, which has no frame number from 1 to {MAX_FRAMES:,}. "
            "Correct the cell."
        )


@lru_cache(maxsize=1024)
def _video_of(folder: str) -> tuple[str, str]:
    """The video whose images a folder holds, and the normalized folder (without `./`)."""
    parts = [part for part in composed(folder).split("/") if part not in ("", ".")]
    return (parts[-1] if parts else ""), "/".join(parts)
