"""Checks submission files against an official sample: header, rows and their order, columns, values."""

import codecs
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from abaw.core.errors import DataError, UsageError
from abaw.core.names import composed, is_junk
from abaw.core.tasks import Task
from abaw.evaluate.submission.formats import (
    Sample,
    VideoList,
    check_has_form,
    header_of,
    locate_frames,
    task_of_header,
)
from abaw.evaluate.submission.parsing import SubmittedRows, read_rows, wrong_columns
from abaw.media.text_files import MARKS, read_lines

BYTE_ORDER_MARKS = (codecs.BOM_UTF8, *(mark for mark, _ in MARKS))


@dataclass(frozen=True)
class Check:
    """What was found in a submission file, or in a folder of them.

    Attributes:
        n_rows, n_videos: in it; of images without a time axis the videos are 0.
        first: the first problem as a sentence with its line; empty if everything is as wanted.
        counts: how many there are of each kind of problem, the first one included.
    """

    n_rows: int
    n_videos: int
    first: str
    counts: dict[str, int]


class _Findings:
    """Counts problems and keeps the first: that of the lowest line, and of several on one line the earliest noted."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.counts: dict[str, int] = {}
        self._line = 0
        self._sentence = ""

    def add(self, kind: str, line: int, what: str, n: int = 1) -> None:
        """Note `n` problems of a kind, the first of them on a line."""
        self.counts[kind] = self.counts.get(kind, 0) + n
        if not self._sentence or line < self._line:
            self._line, self._sentence = line, what

    @property
    def first(self) -> str:
        """A sentence with file and line; empty if there is no problem."""
        return f"{self.path} line {self._line}: {self._sentence}." if self._sentence else ""


def check_submission(path: Path, wanted: Sample | VideoList, task: Task | None = None) -> Check:
    """Check a submission file, or a folder with one file for each video, against what is wanted.

    Args:
        path: the file; for a list of videos the folder.
        task: what is predicted; where it is left out, the sample's header tells, or that of the first video's file.

    Raises:
        UsageError: the task is not the sample's, or cannot be told.
        DataError: nothing is there, or it cannot be read as text.
    """
    if isinstance(wanted, VideoList):
        return _check_folder(path, wanted, task)
    if task not in (None, wanted.task):
        raise UsageError(f"{wanted.path} is a sample of task {wanted.task.name}, not {task.name if task else ''}.")
    findings, rows = _Findings(path), read_rows(path, "images")
    _check_header(findings, rows, wanted.header)
    _check_values(findings, rows, wanted.task)
    _check_images(findings, rows.images, wanted.images)
    n_videos = len(locate_frames(wanted.path, wanted.images).videos) if wanted.task.level == "frame" else 0
    return Check(len(rows.lines), n_videos, findings.first, findings.counts)


def _check_header(findings: _Findings, rows: SubmittedRows, header: str) -> None:
    with rows.path.open("rb") as file:
        if file.read(max(map(len, BYTE_ORDER_MARKS))).startswith(BYTE_ORDER_MARKS):
            findings.add("wrong header", 1, "it begins with a byte order mark; save the file as UTF-8 without one")
    if rows.header != header:
        findings.add("wrong header", 1, f"the header should be {header!r}, found {rows.header[:80]!r}")


def _check_values(findings: _Findings, rows: SubmittedRows, task: Task) -> None:
    columns = wrong_columns(task)
    for number, sentence in rows.mistakes(task):
        if sentence == columns:
            line = rows.lines[number - 2][:60]
            findings.add("row with a wrong number of columns", number, f"{columns}, found {line!r}")
        else:
            findings.add("row with a wrong value", number, sentence)


def _check_images(findings: _Findings, images: Sequence[str], wanted: Sequence[str]) -> None:
    """Each image of the sample must be there as often as in it, in the sample's order, and no other."""
    if images == wanted:
        return
    place_of = {row: place for place, row in enumerate(_numbered(wanted))}
    line_of: dict[tuple[str, int], int] = {}  # in the order of the file
    for line, (image, n_before) in enumerate(_numbered(images), start=2):
        if (image, n_before) in place_of:
            line_of[image, n_before] = line
        elif (image, 0) in place_of:
            findings.add("double row", line, f"{image} is on line {line_of[image, n_before - 1]} already")
            line_of.setdefault((image, n_before), line_of[image, n_before - 1])
        else:
            findings.add("row that is not in the sample", line, f"{image[:60]!r} is not in the sample")
    line_of = {row: line for row, line in line_of.items() if row in place_of}
    rows = list(place_of)
    absent = [row for row in rows if row not in line_of]
    if absent:
        place = place_of[absent[0]]
        line = line_of[rows[place - 1]] + 1 if place else 2
        findings.add("missing row", line, f"{_named(absent[0])} should be here and is missing", len(absent))
    there = (row for row in rows if row in line_of)
    moved = [(row, found) for row, found in zip(there, line_of, strict=True) if row != found]
    if moved:
        row, found = moved[0]
        sentence = f"{_named(found)} is out of order: {_named(row)} should be here, which is on line {line_of[row]}"
        findings.add("row out of order", line_of[found], sentence, len(moved))


def _numbered(images: Sequence[str]) -> list[tuple[str, int]]:
    """Each image and how many rows of it come before, by which rows of one image are told apart."""
    counts: dict[str, int] = {}
    rows = []
    for image in images:
        n_before = counts.get(image, 0)
        counts[image] = n_before + 1
        rows.append((image, n_before))
    return rows


def _named(row: tuple[str, int]) -> str:
    image, n_before = row
    return f"row {n_before + 1} of {image}" if n_before else image


def _check_folder(folder: Path, wanted: VideoList, task: Task | None) -> Check:
    if not folder.is_dir():
        raise DataError(
            f"{wanted.path} is a list of videos, which wants a folder with a file for each, but {folder} is no folder."
        )
    in_folder = {path.name: composed(path.name) for path in sorted(folder.iterdir()) if not is_junk(path.name)}
    paths = {video: folder / _file_of(video, in_folder) for video in wanted.videos}
    there = {video: path for video, path in paths.items() if path.is_file()}
    task = task or _task_of_files(folder, list(there.values()))
    check_has_form(task, "videos")
    absent = [path.name for video, path in paths.items() if video not in there]
    others = sorted(set(in_folder) - {path.name for path in paths.values()})
    firsts, counts, n_rows = [], {}, 0
    if absent:
        firsts.append(f"{folder / absent[0]} is missing.")
        counts["missing file"] = len(absent)
    for path in there.values():
        findings, rows = _Findings(path), read_rows(path, "videos")
        _check_header(findings, rows, header_of(task, "videos"))
        if not rows.lines:
            findings.add("file without rows", 1, "there are no rows after the header")
        _check_values(findings, rows, task)
        n_rows += len(rows.lines)
        firsts += [findings.first] if findings.first else []
        counts |= {kind: counts.get(kind, 0) + n for kind, n in findings.counts.items()}
    if others:
        firsts.append(f"{folder / others[0]} is of no video in {wanted.path}.")
        counts["file of no video"] = len(others)
    return Check(n_rows, len(there), firsts[0] if firsts else "", counts)


def _file_of(video: str, in_folder: Mapping[str, str]) -> str:
    """Name of a video's file: the very one, or else one that says the same with other characters, see `composed`."""
    name = f"{video}.txt"
    return name if name in in_folder else next((own for own, same in in_folder.items() if same == composed(name)), name)


def _task_of_files(folder: Path, paths: Sequence[Path]) -> Task:
    for path in paths[:1]:
        if task := task_of_header(_header(path), "videos"):
            return task
    raise UsageError(f"{folder} does not tell by a header what is predicted. Say it with --task.")


def _header(path: Path) -> str:
    return next(iter(read_lines(path)), "")


def identify(path: Path) -> Task:
    """The task of a submission file, or of a folder of them, by its header.

    Raises:
        DataError: nothing is there, or it cannot be read as text.
        UsageError: the header is of no task.
    """
    if path.is_dir():
        return _task_of_files(path, sorted(path.glob("[!.]*.txt")))
    task = task_of_header(_header(path), "images")
    if task is None:
        raise UsageError(f"{path} does not tell by its header what is predicted. Say it with --task.")
    return task
