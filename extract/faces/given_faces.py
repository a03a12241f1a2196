"""Faces of a video that need no detection: those of a table, or the whole picture."""

import csv
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from abaw.core.errors import DataError
from abaw.core.names import check_name
from abaw.extract.faces.alignment import CROP_PX, TEMPLATE, align
from abaw.extract.faces.detections import N_LANDMARKS
from abaw.extract.faces.following import FacesOfFrame, FollowedFace
from abaw.extract.faces.layout import LANDMARKS
from abaw.media.decoders import PROCESSOR, Decoder
from abaw.media.pictures import SHORTER_SIDE_PX
from abaw.media.text_files import bounded_lines, open_text

FRAME, PERSON = "frame", "person"
BOX = ("left", "top", "right", "bottom")
NO_LANDMARKS = np.full((N_LANDMARKS, 2), np.nan, dtype=np.float32)


class WholePictures:
    """The pictures of a video file as they are, shrunk to what networks take; one "person" is in all of them.

    Attributes:
        notes: sentences about faults of the file.
        cuts: none: cuts are looked for where faces are followed.
        n_by_processor: see `FaceFollower`.
    """

    def __init__(self, file: Path, decoder: Decoder = PROCESSOR) -> None:
        self._file, self._decoder = file, decoder
        self.notes: list[str] = []
        self.cuts: list[int] = []
        self.n_by_processor = 0

    def __iter__(self) -> Iterator[FacesOfFrame]:
        """Yield the frames in order; raises a DataError if none can be decoded."""
        self.notes, self.n_by_processor = [], 0
        for picture, by_processor in self._decoder.pictures(self._file, SHORTER_SIDE_PX, self.notes):
            self.n_by_processor += by_processor
            height, width = picture.image.shape[:2]
            box = np.array([0, 0, width, height], dtype=np.float32)
            yield FacesOfFrame(*picture, {1: FollowedFace(box, 1.0, NO_LANDMARKS, picture.image)})

    def names(self, video: str) -> dict[int, str]:
        """The video itself."""
        return {1: video}


class FacesInTable:
    """The faces of a video file that a table lists, aligned by their landmarks, or cut out by their boxes.

    Args:
        file: the video file.
        table: a CSV file with the columns of `abaw.extract.faces.layout.COLUMNS`: `frame`, and the landmarks or the box; and
            `person` where there are several.

    Attributes:
        notes: sentences about faults of the file.
        cuts: none: cuts are looked for where faces are followed.
        n_by_processor: see `FaceFollower`.
    """

    def __init__(self, file: Path, table: Path, decoder: Decoder = PROCESSOR) -> None:
        self._file, self._table, self._decoder = file, table, decoder
        self._people: list[str] = []
        self.notes: list[str] = []
        self.cuts: list[int] = []
        self.n_by_processor = 0

    def __iter__(self) -> Iterator[FacesOfFrame]:
        """Yield the frames in order.

        Raises:
            DataError: no frame can be decoded, or the table is not one of faces.
        """
        self.notes, self.n_by_processor = [], 0
        rows = _read_table(self._table)
        self._people = sorted({row.person for faces in rows.values() for row in faces})
        numbers = {person: number for number, person in enumerate(self._people, 1)}
        last = -1
        for picture, by_processor in self._decoder.pictures(self._file, 0, self.notes):
            self.n_by_processor += by_processor
            last = picture.number
            faces = {
                numbers[row.person]: FollowedFace(row.box, 1.0, row.landmarks, align(picture.image, row.landmarks))
                for row in rows.get(picture.number + 1, ())
            }
            yield FacesOfFrame(*picture, faces)
        if beyond := sum(len(faces) for frame, faces in rows.items() if frame > last + 1):
            self.notes.append(f"{beyond} faces in {self._table} are of frames after the last one, {last + 1}")

    def names(self, video: str) -> dict[int, str]:
        """The names in the table; those without one have that of the video."""
        return {number: person or video for number, person in enumerate(self._people, 1)}


def people_in_table(table: Path, video: str) -> tuple[str, ...]:
    """The people in a table of faces, see `FacesInTable.names`; the video itself if it cannot be read."""
    try:
        people = {row.person for faces in _read_table(table).values() for row in faces}
    except DataError:  # reported when the video is read
        people = set()
    return tuple(person or video for person in sorted(people)) or (video,)


def has_landmarks(table: Path) -> bool:
    """True if the faces in a table are aligned by landmarks, and if it cannot be read, which is reported later."""
    try:
        with open_text(table) as stream:
            columns = set(csv.DictReader(bounded_lines(stream, table)).fieldnames or ())
    except (DataError, UnicodeDecodeError, csv.Error):
        return True
    return columns.issuperset(LANDMARKS) or not columns.issuperset(BOX)


class _Row(NamedTuple):
    """A face in a table: whose, (4,) its box and (5, 2) its landmarks."""

    person: str
    box: NDArray[np.float32]
    landmarks: NDArray[np.float32]


def _read_table(table: Path) -> dict[int, list[_Row]]:
    """The faces of each frame, by its number from 1."""
    rows: dict[int, list[_Row]] = defaultdict(list)
    try:
        with open_text(table) as stream:
            reader = csv.DictReader(bounded_lines(stream, table))
            columns = set(reader.fieldnames or ())
            if FRAME not in columns or not (columns.issuperset(LANDMARKS) or columns.issuperset(BOX)):
                raise DataError(
                    f"{table} has the columns {', '.join(sorted(columns)[:20]) or 'of no table'}. It needs frame, and left, top, "
                    "right, bottom or the landmarks that `abaw prepare` writes into faces/."
                )
            for line, cells in enumerate(reader, 2):
                frame, row = _parse(cells, columns, table, line)
                if any(other.person == row.person for other in rows[frame]):
                    raise DataError(
                        f"{table}, line {line}: frame {frame} has two faces of {row.person or 'one person'}. "
                        "Tell them apart in the column person."
                    )
                rows[frame].append(row)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table} cannot be read as a table of faces ({error}). Write it as CSV in UTF-8.") from error
    return rows


def _parse(cells: dict[str, str], columns: set[str], table: Path, line: int) -> tuple[int, _Row]:
    try:
        frame = int(cells[FRAME])
        if frame < 1:
            raise ValueError(f"frame {frame} is less than 1")
        named = LANDMARKS if columns.issuperset(LANDMARKS) else BOX
        values = np.array([float(cells[name]) for name in named], dtype=np.float32)
        if not np.isfinite(values).all():
            raise ValueError("a coordinate is not finite")
    except (TypeError, ValueError) as error:
        raise DataError(f"{table}, line {line}: {error}. Correct it, or leave the line out.") from error
    person = (cells.get(PERSON) or "").removeprefix("'")
    if person:
        check_name(person, "person")
    if named is BOX:
        return frame, _Row(person, values, _landmarks_of(values))
    landmarks = values.reshape(N_LANDMARKS, 2)
    return frame, _Row(person, np.concatenate([landmarks.min(axis=0), landmarks.max(axis=0)]), landmarks)


def _landmarks_of(box: NDArray[np.float32]) -> NDArray[np.float32]:
    """Landmarks with which the crop is the square around a box."""
    centre, side = (box[:2] + box[2:]) / 2, float((box[2:] - box[:2]).max())
    return (centre + (TEMPLATE - (CROP_PX - 1) / 2) * (max(side, 1.0) / CROP_PX)).astype(np.float32)
