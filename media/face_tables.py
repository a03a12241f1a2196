"""Tables of face analysis programs, CSV with a row for each face of a frame; `face_columns` has their columns.

    program       frames               which rows have a face              several faces
    OpenFace 2    `frame`, from 1      `success` 1                         `face_id`, by `confidence`
    OpenFace 3    `frame_index`, 0     `face_detection`, a list            `face_id`, by the fifth number of that list
    py-feat       `frame`, from 0      `FaceScore` above 0                 `Identity`, by `FaceScore`
    LibreFace     `frame_idx`, from 0  all                                 one alone
    plain         `frame`, from 1      all, or `success`, `confidence`     `face_id`, by `confidence`

A plain table and one of OpenFace 2 that has a frame 0 count from 0. A table is named like its video, `<video>.csv` (of
OpenFace 3 also `face_analysis_<video>.csv`), or names videos in `video`, or has paths of several in `input` or
`video_path`. Paths of images, `<video>/00001.jpg`, give the video and the number of the frame.
"""

import csv
import math
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from abaw.core.errors import DataError
from abaw.core.expressions import plain_expression
from abaw.core.names import MAX_FRAMES, composed
from abaw.media.face_columns import FaceColumn, columns_of
from abaw.media.text_files import BLANK, LONGEST_LINE, bounded_lines, open_text

DELIMITERS = (",", ";", "\t")
IMAGES = (".jpg", ".jpeg", ".png", ".bmp")
PY_FEAT = "py-feat"  # has a row for each face, also where none or two have the same `Identity`
PLAIN = "plain table"  # of no known program
PREFIX = "face_analysis_"  # of the tables of OpenFace 3
MOST_ROWS = 2_000_000  # of a table: 18 hours of video


@dataclass(frozen=True)
class FaceTable:
    """What the header of a table says.

    Attributes:
        path: the file.
        program: that wrote it, for messages.
        first: number of the first frame; None if it is 1, or 0 where the table has a frame 0.
        header: names of its columns.
        columns: those that are known.
    """

    path: Path
    program: str
    first: int | None
    header: tuple[str, ...]
    delimiter: str
    columns: tuple[FaceColumn, ...]

    def place(self, *names: str) -> int:
        """Position of the first of these columns in the header; -1 if it has none."""
        return next((self.header.index(name) for name in names if name in self.header), -1)


@dataclass(frozen=True)
class FaceRows:
    """The faces of one video, one for each frame that has any.

    Attributes:
        numbers: (rows,) int64 frame numbers from 1, ascending.
        values: (rows, columns) float32, NaN where the table has nothing.
        n_frames: the last frame of the table, with or without a face.
        n_rows: rows of the video in the table, with or without a face.
        n_several: frames with several faces.
        n_repeated: frames of which a face, or the only one, is listed more than once.
        faces: what their `face_id` or `Identity` are, in the order in which they come; empty without such a column.
    """

    numbers: NDArray[np.int64]
    values: NDArray[np.float32]
    n_frames: int
    n_rows: int
    n_several: int
    n_repeated: int
    faces: tuple[str, ...]


def open_table(path: Path, also: Iterable[str] = ()) -> FaceTable | None:
    """What a file is by its header; None if it is no table of faces.

    Args:
        also: names of columns that count as known.
    """
    try:
        with open_text(path) as stream:
            line = stream.readline(LONGEST_LINE)
    except (DataError, OSError, UnicodeError):
        return None
    for delimiter in DELIMITERS:
        header = _cells(line, delimiter)
        frame = next((name for name in ("frame", "frame_idx", "frame_index") if name in header), "")
        columns = columns_of(header, also)
        if (frame or "image" in header) and columns:
            program, first = _program_of(header, frame)
            return FaceTable(path, program, first, header, delimiter, tuple(columns))
    return None


def header_of_table(path: Path) -> tuple[str, ...]:
    """The names of the columns of a table that is separated by commas.

    Raises:
        DataError: it cannot be read as text.
    """
    try:
        with open_text(path) as stream:
            return _cells(stream.readline(LONGEST_LINE), ",")
    except UnicodeError as error:
        raise DataError(f"{path} cannot be read as text ({error}). Write it in UTF-8.") from error


def _cells(line: str, delimiter: str) -> tuple[str, ...]:
    try:
        cells = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
    except csv.Error:
        return ()
    return tuple(cell.strip(BLANK) for cell in cells)


def _program_of(header: Sequence[str], frame: str) -> tuple[str, int | None]:
    if frame == "frame_index":
        return "OpenFace 3", 0
    if frame == "frame_idx":
        return "LibreFace", 0
    if "FaceScore" in header or "FaceRectX" in header:
        return PY_FEAT, 0
    is_openface = "success" in header or ("timestamp" in header and "confidence" in header)
    return ("OpenFace 2" if is_openface else PLAIN), None


def read_rows(table: FaceTable, columns: Sequence[FaceColumn], face: str = "") -> dict[str, FaceRows]:
    """The rows of each video in a table.

    Args:
        columns: some of the table's.
        face: `face_id` or `Identity` of the one to take; by default that of the highest confidence in each frame.

    Raises:
        DataError: a cell is not what its column holds, or no row has this face; names the line.
    """
    reader, videos = _RowReader(table, columns), dict[str, _Faces]()
    try:
        with open_text(table.path) as stream:
            lines = csv.reader(bounded_lines(stream, table.path), delimiter=table.delimiter, skipinitialspace=True)
            next(lines, None)
            for cells in lines:
                if lines.line_num > MOST_ROWS:
                    raise DataError(f"{table.path} has more than {MOST_ROWS:,} lines. Split it by videos.")
                if any(cells):
                    row = _Row(reader, cells, f"{table.path} line {lines.line_num}")
                    video, number = row.video_and_frame()
                    videos.setdefault(video, _Faces(table.program == PY_FEAT)).add(number, row, face)
    except (csv.Error, UnicodeError) as error:
        raise DataError(f"{table.path} cannot be read as a table ({error}). Write it again.") from error
    if reader.is_by_image:
        first = 1
    elif table.first is not None:
        first = table.first
    else:
        first = int(all(faces.lowest > 0 for faces in videos.values()))
    rows = {video: faces.chosen(1 - first, len(columns)) for video, faces in videos.items()}
    names = list(dict.fromkeys(name for one in rows.values() for name in one.faces))
    if face and face not in names:
        listed = f"it has {', '.join(names[:5])}" if names else "it numbers none"
        raise DataError(f"{table.path} has no face {face[:30]!r}: {listed[:100]}. Correct --face, or leave it out.")
    return rows


class _RowReader:
    """Where the rows of a table have what."""

    def __init__(self, table: FaceTable, columns: Sequence[FaceColumn]) -> None:
        self.header = table.header
        self.stem = composed(table.path.stem.removeprefix(PREFIX))
        self.frame = table.place("frame", "frame_idx", "frame_index")
        self.video = table.place("video")
        self.path = table.place("image", "input", "video_path") if self.video < 0 else -1
        self.name = table.place("face_id", "Identity")
        self.success = table.place("success")
        self.confidence = table.place("confidence", "FaceScore")
        self.detection = table.place("face_detection")
        self.columns = columns
        self.is_by_image = False
        self._paths: dict[str, tuple[str, int]] = {}
        self._has_several = self.path >= 0 and _names_several(table, self.path)

    def of_path(self, text: str) -> tuple[str, int]:
        """The video of a path, and the number of the frame if it is that of an image, else -1."""
        if text not in self._paths:
            path = PurePosixPath(text.replace("\\", "/"))
            is_image = path.suffix.lower() in IMAGES and path.stem.isdecimal()
            if is_image and path.parent.name:
                self._paths[text] = composed(path.parent.name), int(path.stem)
            else:
                self._paths[text] = (composed(path.stem) if self._has_several else self.stem), -1
        return self._paths[text]


def _names_several(table: FaceTable, place: int) -> bool:
    """True if a column of paths has more than one."""
    with open_text(table.path) as stream:
        lines = csv.reader(bounded_lines(stream, table.path), delimiter=table.delimiter, skipinitialspace=True)
        next(lines, None)
        paths = (cells[place] for cells in lines if len(cells) > place)
        first = next(paths, "")
        return any(path != first for path in paths)


@dataclass(frozen=True)
class _Row:
    """One line of a table."""

    reader: _RowReader
    cells: Sequence[str]
    location: str

    def __post_init__(self) -> None:
        if len(self.cells) < len(self.reader.header):
            raise DataError(
                f"{self.location} has {len(self.cells)} cells, its header {len(self.reader.header)}. Write the table again."
            )

    def video_and_frame(self) -> tuple[str, int]:
        """The video, and the number of the frame as the table counts."""
        reader = self.reader
        if reader.video >= 0:
            video, number = composed(self.cells[reader.video].strip(BLANK)), -1
        elif reader.path >= 0:
            video, number = reader.of_path(self.cells[reader.path].strip(BLANK))
            reader.is_by_image |= number >= 0
        else:
            video, number = reader.stem, -1
        if number < 0:
            value = self._number(reader.frame) if reader.frame >= 0 else math.nan
            number = int(value) if 0 <= value < MAX_FRAMES and value == int(value) else -1
        if number < 0 or not video:
            what = "no video" if not video else "no number of a frame"
            raise DataError(f"{self.location} has {what}: {','.join(self.cells)[:60]!r}. Correct the row.")
        return video, number

    def confidence(self) -> float:
        """How sure the face is; 0 or NaN if there is none."""
        reader = self.reader
        if reader.success >= 0 and not self._number(reader.success) > 0:
            return 0.0
        if reader.detection >= 0:
            numbers = self._list(reader.detection)
            return numbers[4] if len(numbers) > 4 else 0.0
        confidence = self._number(reader.confidence) if reader.confidence >= 0 else 1.0
        return max(confidence, 1e-9) if reader.success >= 0 else confidence

    def face(self) -> str:
        """What the table calls the face; empty without such a column."""
        return self.cells[self.reader.name].strip(BLANK) if self.reader.name >= 0 else ""

    def values(self) -> list[float]:
        """The values of the columns."""
        return [self._value(column) for column in self.reader.columns]

    def _value(self, column: FaceColumn) -> float:
        if column.part < 0:
            return self._number(column.place)
        if not column.classes:
            numbers = self._list(column.place)
            return numbers[column.part] if column.part < len(numbers) else math.nan
        return self._share(column)

    def _share(self, column: FaceColumn) -> float:
        """1 if the cell names the class of a column, or has its number; 0 if another one."""
        text = self.cells[column.place].strip(BLANK)
        if not text or text.lower() == "nan":
            return math.nan
        known = [plain_expression(name) for name in column.classes]
        number = text.removesuffix(".0")
        name = known[int(number)] if number.isdecimal() and int(number) < len(known) else plain_expression(text)
        if name not in known:
            raise DataError(
                f"{self.location}: `{self.reader.header[column.place]}` is {text[:30]!r}, which is none of "
                f"{', '.join(column.classes)}. Correct the cell."
            )
        return float(known[column.part] == name)

    def _number(self, place: int) -> float:
        """A number; NaN for an empty cell."""
        text = self.cells[place]
        try:
            return float(text) if text else math.nan
        except ValueError:
            if text.strip(BLANK).lower() in ("true", "false"):
                return float(text.strip(BLANK).lower() == "true")
            raise DataError(
                f"{self.location}: `{self.reader.header[place]}` is {text[:30]!r}, not a number. Correct the cell."
            ) from None

    def _list(self, place: int) -> list[float]:
        """The numbers of a list such as `[[0.1, 0.2]]`; empty for an empty cell."""
        words = self.cells[place].replace("[", " ").replace("]", " ").replace(",", " ").split()
        try:
            return list(map(float, words))
        except ValueError:
            raise DataError(
                f"{self.location}: `{self.reader.header[place]}` is {self.cells[place][:30]!r}, not a list of numbers. "
                "Correct the cell."
            ) from None


class _Faces:
    """The faces of one video, collected row by row.

    Args:
        is_row_a_face: two rows of a frame are two faces, whatever their names.
    """

    def __init__(self, is_row_a_face: bool) -> None:
        self.lowest, self.highest = MAX_FRAMES, 0
        self._is_row_a_face = is_row_a_face
        self._n_rows = 0
        self._best: dict[int, tuple[float, array[float]]] = {}  # confidence and values, four bytes each
        self._first: dict[int, str] = {}  # name of the first face of each frame
        self._several: set[int] = set()
        self._repeated: set[int] = set()
        self._names: dict[str, str] = {}

    def add(self, number: int, row: _Row, face: str) -> None:
        """Take a row if its face is the wanted one, or the surest so far in its frame."""
        self.lowest, self.highest = min(self.lowest, number), max(self.highest, number)
        self._n_rows += 1
        confidence, name = row.confidence(), row.face()
        if not confidence > 0:
            return
        name = self._names.setdefault(name, name)  # one text for all rows of a face
        if number not in self._first:
            self._first[number] = name
        elif self._is_row_a_face or name != self._first[number]:
            self._several.add(number)
        else:
            self._repeated.add(number)
        is_wanted = not face or name == face
        if is_wanted and (number not in self._best or confidence > self._best[number][0]):
            values = row.values()
            if not all(map(math.isnan, values)):
                self._best[number] = (confidence, array("f", values))

    def chosen(self, shift: int, n_columns: int) -> FaceRows:
        """The rows in the order of their frames, whose numbers are shifted."""
        numbers = sorted(self._best)
        values = np.array([self._best[number][1] for number in numbers], dtype=np.float32).reshape(-1, n_columns)
        names = tuple(name for name in self._names if name)
        return FaceRows(
            np.array(numbers, dtype=np.int64) + shift, values, self.highest + shift, self._n_rows,
            len(self._several), len(self._repeated), names,
        )  # fmt: skip
