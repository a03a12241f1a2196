"""Videos in the tables of OpenFace, py-feat and LibreFace; see `abaw.media.face_tables`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from abaw.core.errors import DataError, UsageError, did_you_mean
from abaw.exchange.source_rows import Rows, check_numbers, step_of
from abaw.exchange.source_stamps import sample_stamp, stamp
from abaw.media.face_columns import KINDS, FaceColumn, choose_columns, describe_unknown
from abaw.media.face_tables import FaceRows, FaceTable, header_of_table, open_table, read_rows

TABLE_SUFFIX = ".csv"


@dataclass(frozen=True)
class FaceVideo:
    """A video in a table.

    Attributes:
        columns: what is taken from the table.
        face: the one to take where a frame has several; empty takes the surest.
        numbers: (rows,) int64 numbers of the frames with a face, from 1.
        n_frames: the last frame of the table.
    """

    name: str
    table: FaceTable
    columns: tuple[FaceColumn, ...]
    face: str
    numbers: NDArray[np.int64]
    n_frames: int

    def digest(self) -> str:
        """sha256 over its file, the columns and the face."""
        return f"{stamp([self.table.path])} {' '.join(column.name for column in self.columns)} {self.face}"

    def content(self) -> str:
        """See `SourceVideo`."""
        return sample_stamp([self.table.path])

    @contextmanager
    def open(self) -> Iterator[Rows]:
        """Its rows: those of frames with a face. The table is read with their values."""
        check_numbers(self.numbers, self.n_frames, f"{self.table.path}, video {self.name!r}")
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
        DataError: the tables have different columns.
    """
    videos, failed, first = list[FaceVideo](), dict[str, str](), None
    several, unknown, program = dict[str, int](), "", ""
    for path in paths:
        table = open_table(path)
        if table is None:
            failed[path.stem] = f"{path.name} is no table of faces like the others. Move it away."
            continue
        columns = tuple(_chosen(table, wanted))
        program, first = table.program, first or (path, columns)
        if [column.name for column in columns] != [column.name for column in first[1]]:
            failed[path.stem] = _difference(path, columns, *first)
            continue
        unknown = unknown or describe_unknown(table.header, table.columns)
        try:
            rows = _read(table, columns, face, path.stat().st_mtime_ns)
        except DataError as error:
            failed[path.stem] = str(error)
            continue
        videos += [FaceVideo(name, table, columns, face, one.numbers, one.n_frames) for name, one in rows.items()]
        several |= {name: one.n_several for name, one in rows.items() if one.n_several}
    names = [column.name for column in first[1]] if first else []
    return videos, failed, _notes(program, names, several, unknown, face)


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


def _difference(path: Path, columns: Sequence[FaceColumn], other: Path, others: Sequence[FaceColumn]) -> str:
    names, known = [column.name for column in columns], [column.name for column in others]
    odd = next((name for name in (*known, *names) if (name in known) != (name in names)), "their order")
    return (
        f"{path.name} has other columns than {other.name} ({odd}). Name with --columns what all have, or import it as a "
        "separate feature"
    )


def _notes(program: str, names: Sequence[str], several: dict[str, int], unknown: str, face: str) -> list[str]:
    """What was chosen, in sentences."""
    notes = []
    if names:
        listed = ", ".join(names[:4]) + (f" ... {names[-1]}" if len(names) > 4 else "")
        notes.append(
            f"tables of {program}: {len(names)} {'columns' if len(names) > 1 else 'column'} in this order: {listed}"
        )
    if several:
        first = next(iter(several))
        taken = (
            f"face {face} is taken" if face else "the one with the highest confidence is taken (--face ID for another)"
        )
        notes.append(f"{len(several)} videos have frames with several faces, {first} {several[first]} of them: {taken}")
    if unknown:
        notes.append(f"columns that are not known are left out: {unknown}")
    return notes


def describe_other_tables(source: Path) -> str:
    """A sentence on a table in a folder that has no columns of faces; empty without one."""
    for path in sorted(source.glob(f"*{TABLE_SUFFIX}")) if source.is_dir() else []:
        try:
            header = header_of_table(path)
        except DataError as error:
            return f" {error}"
        if header and (unknown := describe_unknown(header, ())):
            return f" {path.name} has no number of a frame with a known column: {unknown}"
    return ""
