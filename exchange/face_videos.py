"""Videos in the tables of OpenFace, py-feat and LibreFace; see `abaw.media.face_tables`."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from shlex import quote

import numpy as np
from numpy.typing import NDArray

from abaw.core.errors import DataError, UsageError, did_you_mean
from abaw.exchange.source_rows import Rows, check_numbers, step_of
from abaw.exchange.source_stamps import sample_stamp, stamp
from abaw.media.face_columns import KINDS, FaceColumn, choose_columns, columns_of, describe_unknown
from abaw.media.face_tables import PLAIN, FaceRows, FaceTable, header_of_table, open_table, read_rows

TABLE_SUFFIX = ".csv"


@dataclass(frozen=True)
class FaceVideo:
    """A video in a table.

    Attributes:
        columns: what is taken from the table.
        face: the one to take where a frame has several; empty takes the surest.
        numbers: (rows,) int64 numbers of the frames with a face, from 1.
        n_frames: the last frame of the table.
        n_rows: rows of the video in the table.
    """

    name: str
    table: FaceTable
    columns: tuple[FaceColumn, ...]
    face: str
    numbers: NDArray[np.int64]
    n_frames: int
    n_rows: int

    def digest(self) -> str:
        """sha256 over its file, the columns and the face."""
        return f"{stamp([self.table.path])} {' '.join(column.name for column in self.columns)} {self.face}"

    def content(self) -> str:
        """See `SourceVideo`."""
        return sample_stamp([self.table.path])

    @contextmanager
    def open(self) -> Iterator[Rows]:
        """Its rows: those of frames with a face. The table is read with their values."""
        check_numbers(self.numbers, self.n_frames, f"{self.table.path}, video {self.name!r}", self.n_rows)
        shape = (len(self.columns),)

        def blocks() -> Iterator[NDArray]:
            faces = _read(self.table, self.columns, self.face, self.table.path.stat().st_mtime_ns).get(self.name)
            if faces is None or not np.array_equal(faces.numbers, self.numbers):
                raise DataError(f"{self.table.path} has changed since it was first read. Import it again.")
            step = step_of(shape, faces.values.dtype)
            for start in range(0, len(faces.values), step):
                yield faces.values[start : start + step]

        yield Rows(self.numbers, self.n_frames, shape, np.dtype(np.float32), blocks)


@lru_cache(maxsize=2)
def _read(table: FaceTable, columns: tuple[FaceColumn, ...], face: str, changed: int) -> dict[str, FaceRows]:
    """The rows of a table, which may have many videos, read once; `changed` is its time."""
    return read_rows(table, columns, face)


def find_face_videos(
    paths: Sequence[Path], wanted: Sequence[str], face: str
) -> tuple[list[FaceVideo], dict[str, str], list[str]]:
    """The videos of tables, why tables cannot be read by the name of their files, and sentences on what is left out.

    Args:
        wanted: kinds or names of columns; the default kinds if empty.

    Raises:
        UsageError: no table has such a column.
        UsageError: tables of several programs have different columns.
        DataError: no table has a row with a face.
    """
    videos, failed, first = list[FaceVideo](), dict[str, str](), None
    counts, unknown = _Counts(), ""
    for path in paths:
        table = open_table(path)
        if table is None:
            failed[path.stem] = f"{path.name} is no table of faces like the others. Move it away."
            continue
        columns = tuple(_chosen(table, wanted))
        first = first or (table, columns)
        if [column.name for column in columns] != [column.name for column in first[1]]:
            failed[path.stem] = _difference(table, columns, *first)
            continue
        unknown = unknown or describe_unknown(table.header, table.columns)
        try:
            rows = _read(table, columns, face, path.stat().st_mtime_ns)
        except DataError as error:
            failed[path.stem] = str(error)
            continue
        for name, of in rows.items():
            videos.append(FaceVideo(name, table, columns, face, of.numbers, of.n_frames, of.n_rows))
            counts.add(name, of)
    if not failed and not any(len(video.numbers) for video in videos):
        raise DataError(_nothing_in(paths, sum(video.n_rows for video in videos)))
    notes = [_description(*first)] if first else []
    notes += counts.notes(face)
    notes += [f"columns that are not known are left out: {unknown}"] if unknown else []
    return videos, failed, notes


def _nothing_in(paths: Sequence[Path], n_rows: int) -> str:
    """A sentence on tables without any face."""
    subject, them, their = f"{paths[0]} has", "the table", "its"
    if len(paths) > 1:
        subject, them, their = f"The {len(paths):,} tables in {paths[0].parent} have", "them", "their"
    if not n_rows:
        return f"{subject} no rows after {their} header. Write {them} again."
    return f"{subject} no row with a face and finite numbers among {their} {n_rows:,} rows. Write {them} again."


def _chosen(table: FaceTable, wanted: Sequence[str]) -> list[FaceColumn]:
    columns, missing = choose_columns(table.columns, wanted)
    if missing or not columns:
        kinds = [kind for kind in KINDS if any(column.kind == kind for column in table.columns)]
        names = [column.name for column in table.columns]
        hint = did_you_mean(missing, [*kinds, *names]) if missing else ""
        raise UsageError(
            f"{table.path} has no columns {missing or 'of the default kinds'!r}. {hint}It has {', '.join(kinds)}; name "
            "these, or columns, with --columns."
        )
    return columns


def _difference(table: FaceTable, columns: Sequence[FaceColumn], other: FaceTable, others: Sequence[FaceColumn]) -> str:
    """Why a table cannot be imported with another one.

    Raises:
        UsageError: they are of two programs, so that all tables of one of the two would fail.
    """
    if table.program != other.program and PLAIN not in (table.program, other.program):
        raise UsageError(
            f"{table.path.parent} has tables of {other.program} ({other.path.name}) and of {table.program} ({table.path.name}), "
            "which have different columns. Move those of one program into another folder, and import each folder as a "
            "feature of its own."
        )
    names, known = [column.name for column in columns], [column.name for column in others]
    odd = next((name for name in (*known, *names) if (name in known) != (name in names)), "their order")
    return (
        f"{table.path.name} has other columns than {other.path.name} ({odd}). Name with --columns what all have, or import it "
        "as a separate feature"
    )


def _description(table: FaceTable, columns: Sequence[FaceColumn]) -> str:
    names = [column.name for column in columns]
    listed = ", ".join(names[:4]) + (f" ... {names[-1]}" if len(names) > 4 else "")
    tables = "plain tables" if table.program == PLAIN else f"tables of {table.program}"
    return f"{tables}: {len(names)} {'columns' if len(names) > 1 else 'column'} in this order: {listed}"


@dataclass
class _Counts:
    """Frames that have more than one row, by video: with several faces, or listed more than once."""

    several: dict[str, int] = field(default_factory=dict)
    repeated: dict[str, int] = field(default_factory=dict)

    def add(self, video: str, rows: FaceRows) -> None:
        """Count those of a video."""
        if rows.n_several:
            self.several[video] = rows.n_several
        if rows.n_repeated:
            self.repeated[video] = rows.n_repeated

    def notes(self, face: str) -> Iterator[str]:
        """What was taken of such frames, in sentences."""
        for counts, what, taken in (
            (
                self.several,
                "with several faces",
                "the one with the highest confidence is taken (--face ID for another)",
            ),
            (
                self.repeated,
                "that are listed more than once",
                "the row with the highest confidence is taken, else the first",
            ),
        ):
            if counts:
                first, n_frames = next(iter(counts.items()))
                videos = "1 video has" if len(counts) == 1 else f"{len(counts):,} videos have"
                is_named = face and counts is self.several
                yield f"{videos} frames {what}, {first} {n_frames:,} of them: {f'face {face} is taken' if is_named else taken}"


def describe_other_tables(source: Path) -> str:
    """A sentence on a table in a folder that is not taken for one of faces; empty without one."""
    for path in sorted(source.glob(f"*{TABLE_SUFFIX}*")) if source.is_dir() else []:
        if path.name.endswith(f"{TABLE_SUFFIX}.gz"):
            return f" {path.name} is compressed. Unpack it: gunzip {quote(str(path))}"
        if path.suffix != TABLE_SUFFIX:
            continue
        try:
            header = header_of_table(path)
        except DataError as error:
            return f" {error}"
        is_whole = len(header) == 1  # not one comma
        header = tuple(re.split("[;\t]", header[0])) if is_whole else header
        if known := columns_of(header):
            similar = next((name for name in header if "frame" in name.lower()), "")
            what = f"Call its column {similar!r} frame." if similar else "Add a column frame, from 1."
            return f" {path.name} has {known[0].name!r}, but no number of the frame. {what}"
        if header and (unknown := describe_unknown(header, ())):
            separators = "; separate columns by commas, semicolons or tabs" if is_whole and len(header) == 1 else ""
            return f" {path.name} has no number of a frame with a known column: {unknown}{separators}"
    return ""
