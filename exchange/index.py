"""One array with the rows of all videos, and a table with the video and frame of each row.

The array may be in parts, `train_0.npy`, `train_1.npy` and so on, with a table `train.csv`, as Situ-RUCAIM3 keep their
features. Its column `embedd_idx` names the frame of row k of all parts together, in the order of the names of their files, as
`video/00001`; then no other column counts. Or it gives each row a place in the parts, from 0, and the table names the video
`vn` and its frame `frame_idx`. That counts from 1, or from 0 if the numbers in `img_path` say so, or without these if there is
a 0.
"""

import csv
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from posixpath import basename, splitext

import numpy as np
from numpy.typing import NDArray

from abaw.core.errors import DataError
from abaw.core.names import MAX_FRAMES, composed
from abaw.exchange.npy import map_array, read_rows
from abaw.exchange.source_rows import Rows, check_array, check_numbers, step_of
from abaw.exchange.source_stamps import sample_stamp, stamp
from abaw.media.text_files import BLANK, bounded_lines, open_text

COLUMNS = "`video` and `frame`, or `image` (video/00001.jpg)"
VIDEO_AND_FRAME, IMAGE = ("video", "frame"), ("image",)
VN_AND_FRAME, IMG_PATH = ("vn", "frame_idx"), ("img_path",)
ROW = "embedd_idx"
DELIMITERS = (",", ";", "\t")
MAX_ROWS = 2**31 - 1
LONGEST_START = 65_536  # characters of the first two lines, by which a table is known


@dataclass
class RowIndex:
    """The rows of one video in the array, their frame numbers (four bytes each), and the folder of its images."""

    rows: array = field(default_factory=lambda: array("i"))
    frames: array = field(default_factory=lambda: array("i"))
    trouble: str = ""
    home: str = ""


@dataclass(frozen=True)
class IndexedRows:
    """A video as rows of an array, or of the parts of one. The rows may lie in any order."""

    name: str
    parts: tuple[Path, ...]
    table: Path
    index: RowIndex

    def digest(self) -> str:
        """sha256 over the array and the table: a change in either is a change of all videos."""
        return stamp([*self.parts, self.table])

    def content(self) -> str:
        """See `SourceVideo`."""
        return sample_stamp([*self.parts, self.table])

    @contextmanager
    def open(self) -> Iterator[Rows]:
        """Its rows, by frame number."""
        if self.index.trouble:
            raise DataError(self.index.trouble)
        arrays = [map_array(part, str(part)) for part in self.parts]
        head, starts = arrays[0], np.cumsum([0, *map(len, arrays)])
        frames = np.frombuffer(self.index.frames, dtype=np.int32)
        order = np.argsort(frames, kind="stable")
        numbers, rows = frames[order].astype(np.int64), np.frombuffer(self.index.rows, dtype=np.int32)[order]
        check_numbers(numbers, int(numbers.max(initial=0)), f"{self.table}, video {self.name!r}", len(rows))
        step = step_of(head.shape[1:], head.dtype)

        def blocks() -> Iterator[NDArray]:
            for start in range(0, len(rows), step):
                yield _read_parts(self.parts, starts, rows[start : start + step])

        yield Rows(numbers, int(numbers[-1]), head.shape[1:], head.dtype, blocks)


def _read_parts(parts: Sequence[Path], starts: NDArray[np.int64], rows: NDArray[np.int32]) -> NDArray:
    """Some rows of an array in parts, of which part k begins at row `starts[k]`."""
    if len(parts) == 1:
        return read_rows(parts[0], rows)
    part_of = np.searchsorted(starts, rows, side="right") - 1
    blocks = {
        part: read_rows(parts[part], rows[part_of == part] - starts[part]) for part in np.unique(part_of).tolist()
    }
    first = next(iter(blocks.values()))
    values = np.empty((len(rows), *first.shape[1:]), dtype=np.result_type(*blocks.values()))
    for part, block in blocks.items():
        values[part_of == part] = block
    return values


def find_indexed(parts: Sequence[Path], table: Path) -> list[IndexedRows]:
    """The videos of an array, or of the parts of one, and its table.

    Raises:
        DataError: the two do not match, or one is invalid; then no video can be trusted.
    """
    n_values, shape = 0, None
    for part in parts:
        values = map_array(part, str(part))
        check_array(values, str(part))
        if shape not in (None, values.shape[1:]):
            raise DataError(
                f"{part} has rows of shape {values.shape[1:]}, {parts[0].name} of {shape}. Make them alike."
            )
        n_values, shape = n_values + len(values), values.shape[1:]
    videos, n_rows = read_table(table)
    names = parts[0].name if len(parts) == 1 else f"{parts[0].name} to {parts[-1].name}"
    if has_places(table) and not names_rows(table):
        _check_places(videos, n_values, table, names)
    elif n_rows != n_values:
        raise DataError(
            f"{table} has {n_rows} rows after its header, but {names} has {n_values}; row k of the table "
            "should describe row k of the array. Write both again, together."
        )
    return [IndexedRows(name, tuple(parts), table, index) for name, index in videos.items()]


def _check_places(videos: Mapping[str, RowIndex], n_values: int, table: Path, names: str) -> None:
    places = np.array([row for index in videos.values() for row in index.rows], dtype=np.int64)
    if places.size and places.max() >= n_values:
        raise DataError(
            f"{table} has `{ROW}` {int(places.max())}, but {names} have {n_values} rows together. Copy the missing parts."
        )
    unique, counts = np.unique(places, return_counts=True)
    if counts.max(initial=1) > 1:
        raise DataError(
            f"{table} has `{ROW}` {int(unique[counts.argmax()])} more than once; it should count the rows of {names} "
            "together, from 0. Correct the column."
        )


def has_places(table: Path) -> bool:
    """True if a table has the column `embedd_idx`; False also for what is no table."""
    return bool(_place_columns(table))


def names_rows(table: Path) -> bool:
    """True if the column `embedd_idx` of a table has names such as `video/00001`; False also without that column."""
    return any("/" in cell for cell in _place_columns(table)[1:])


def _place_columns(table: Path) -> list[str]:
    """The column `embedd_idx` in the first two lines of a table: its header and its first cell; empty without it."""
    try:
        with open_text(table) as stream:
            header, first = stream.readline(LONGEST_START), stream.readline(LONGEST_START)
            for delimiter in DELIMITERS:
                names, cells = _cells(header, delimiter), _cells(first, delimiter)
                if ROW in names:
                    return [ROW, *cells[names.index(ROW) :][:1]]
    except (UnicodeError, csv.Error, DataError, OSError):
        pass
    return []


def read_table(table: Path) -> tuple[dict[str, RowIndex], int]:
    """Rows by video, and the number of rows. An error in one video's rows is kept with that video.

    Raises:
        DataError: no known columns, a blank line between rows, or a row without a video.
    """
    videos: dict[str, RowIndex] = {}
    n_rows = blank = 0
    offsets: dict[int, str] = {}
    try:
        with open_text(table) as stream:
            texts = bounded_lines(stream, table)
            form = _find_form(table, next(texts, ""), names_rows(table))
            lines = csv.reader(texts, delimiter=form.delimiter, skipinitialspace=True)
            for cells in lines:
                number = lines.line_num + 1
                if not "".join(cells).strip(BLANK):
                    blank = blank or number
                    continue
                if blank:
                    raise DataError(f"{table} line {blank} is blank but rows follow. Delete it, or restore its row.")
                _take_row(videos, n_rows, cells, form, f"{table} line {number}", offsets)
                n_rows += 1
    except (UnicodeError, csv.Error) as error:
        raise DataError(f"{table} cannot be read as a table ({error}). Save it as CSV in UTF-8.") from error
    if form.names == VN_AND_FRAME:
        _count_from_1(videos, offsets, table)
    return videos, n_rows


def _count_from_1(videos: Mapping[str, RowIndex], offsets: Mapping[int, str], table: Path) -> None:
    """Add to `frame_idx` what makes it count from 1.

    Args:
        offsets: the differences between numbers in `img_path` and `frame_idx`, each with the first line that has it.
    """
    if len(offsets) > 1 or not offsets.keys() <= {0, 1}:
        shown = " and ".join(f"{offset} ({location})" for offset, location in list(offsets.items())[:2])
        raise DataError(
            f"{table}: the number in `img_path` minus `frame_idx` is {shown}; it should be 0 or 1 in all lines. Correct them."
        )
    lowest = min((min(index.frames, default=1) for index in videos.values()), default=1)
    offset = next(iter(offsets), int(lowest == 0))
    for index in videos.values():
        index.frames = array("i", (frame + offset for frame in index.frames))


@dataclass(frozen=True)
class Form:
    """The delimiter of a table, and its columns with video and frame, or with the image.

    Attributes:
        place: column with the row of the array; -1 where row k of the table is row k of the array.
        image: column with the image, next to video and frame; -1 without one.
    """

    delimiter: str
    columns: tuple[int, ...]
    names: tuple[str, ...]
    place: int = -1
    image: int = -1


def _cells(header: str, delimiter: str) -> list[str]:
    """The names of the columns in a header."""
    cells = next(csv.reader([header], delimiter=delimiter, skipinitialspace=True), [])
    return [cell.strip(BLANK).lower() for cell in cells]


def _find_form(table: Path, header: str, names_rows: bool) -> Form:
    for delimiter in DELIMITERS:
        names = _cells(header, delimiter)
        if names_rows and ROW in names:
            return Form(delimiter, (names.index(ROW),), (ROW,))
        for columns in (VIDEO_AND_FRAME, IMAGE, VN_AND_FRAME, IMG_PATH):
            if set(columns) <= set(names):
                place = names.index(ROW) if ROW in names else -1
                image = names.index(IMG_PATH[0]) if columns == VN_AND_FRAME and IMG_PATH[0] in names else -1
                return Form(delimiter, tuple(names.index(name) for name in columns), columns, place, image)
    raise DataError(
        f"{table} should have the columns {COLUMNS}, separated by commas; line 1 is {header.strip()[:60]!r}. Add a header."
    )


def _take_row(
    videos: dict[str, RowIndex], row: int, cells: Sequence[str], form: Form, location: str, offsets: dict[int, str]
) -> None:
    """Note the video and the frame of a row.

    Raises:
        DataError: the row has none.
    """
    if len(cells) <= max(*form.columns, form.place, form.image) or row > MAX_ROWS:
        shown = form.delimiter.join(cells)[:60]
        raise DataError(
            f"{location}: the row has {len(cells)} cells and lacks `{form.names[-1]}`: {shown!r}. Correct it."
        )
    video, text, home = _video_and_frame(cells, form, location)
    if form.place >= 0:
        row = _number(cells[form.place].strip(BLANK))
        if not 0 <= row <= MAX_ROWS:
            raise DataError(f"{location}: `{ROW}` is {cells[form.place][:30]!r}, not a row from 0. Correct the cell.")
    index = videos.setdefault(video, RowIndex(home=home))
    frame, lowest = _number(text), 0 if form.names == VN_AND_FRAME else 1
    if index.home != home:
        index.trouble = index.trouble or (
            f"{location}: `image` is in {home}, others of video {video!r} are in {index.home}. Give each video its own name."
        )
    elif lowest <= frame < MAX_FRAMES + lowest:
        index.rows.append(row)
        index.frames.append(frame)
        if form.names == VN_AND_FRAME and form.image >= 0:
            # a Path takes three times as long, and tables have millions of rows
            number = _number(splitext(basename(cells[form.image].replace("\\", "/")))[0])
            if number >= 0:
                offsets.setdefault(number - frame, location)
    else:
        index.trouble = index.trouble or (
            f"{location}: `{form.names[-1]}` is {text[:60]!r}, which has no frame number from 1 to {MAX_FRAMES:,}. "
            "Correct the cell."
        )


def _video_and_frame(cells: Sequence[str], form: Form, location: str) -> tuple[str, str, str]:
    """The video of a row, the text with its frame number, and the folder of its image, if it names one."""
    texts = [cells[column].strip(BLANK) for column in form.columns]
    if form.names not in (IMAGE, IMG_PATH, (ROW,)):
        return composed(texts[0]), texts[1], ""
    folder, _, file = texts[0].replace("\\", "/").rpartition("/")
    video, home = _video_of(folder)
    if not video:
        raise DataError(
            f"{location}: `{form.names[0]}` should be <video>/00001.jpg, found {texts[0][:60]!r}. Correct the cell."
        )
    return video, file.partition(".")[0], home


def _number(text: str) -> int:
    """A number from 0; -1 for anything else. Tables of pandas may have 12.0 for 12."""
    text = text.removesuffix(".0")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else -1


@lru_cache(maxsize=1024)
def _video_of(folder: str) -> tuple[str, str]:
    """The video whose images a folder holds, and the normalized folder (without `./`)."""
    parts = [part for part in composed(folder).split("/") if part not in ("", ".")]
    return (parts[-1] if parts else ""), "/".join(parts)
