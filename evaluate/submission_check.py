"""Checks submission files against an official sample: header, rows and their order, columns, values."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from abaw.datasets.labels import read_text
from abaw.errors import DataError, UsageError
from abaw.evaluate.formats import (
    IMAGE_HEADERS,
    VIDEO_HEADERS,
    Sample,
    VideoList,
    check_has_file,
    locate_frames,
    task_of_header,
    wrong_columns,
    wrong_with,
)
from abaw.tasks import Task

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


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
    findings = _Findings(path)
    lines = _read_lines(path, wanted.header, findings)
    images = [line.partition(",")[0] for line in lines]
    texts = [line.partition(",")[2] for line in lines]
    _check_values(findings, lines, texts, wanted.task)
    _check_rows(findings, images, wanted.images)
    n_videos = len(locate_frames(wanted.path, wanted.images).videos) if wanted.task.level == "frame" else 0
    return Check(len(lines), n_videos, findings.first, findings.counts)


def _read_lines(path: Path, header: str, findings: _Findings) -> list[str]:
    """The lines after the header, which is checked."""
    first, _, body = read_text(path).partition("\n")
    with path.open("rb") as file:
        if file.read(len(BYTE_ORDER_MARK)) == BYTE_ORDER_MARK:
            findings.add("wrong header", 1, "it begins with a byte order mark; save the file as UTF-8 without one")
    if first != header:
        findings.add("wrong header", 1, f"the header should be {header!r}, found {first[:80]!r}")
    return body.removesuffix("\n").split("\n") if body else []


def _check_values(findings: _Findings, lines: Sequence[str], texts: Sequence[str], task: Task) -> None:
    """Look at every distinct text of values once: rows of classes and action units are mostly alike."""
    wrong = {text: sentence for text in set(texts) if (sentence := wrong_with(text, task))}
    if not wrong:
        return
    columns = wrong_columns(task)
    for number, (line, text) in enumerate(zip(lines, texts, strict=True), start=2):
        if text not in wrong:
            continue
        if wrong[text] == columns:
            findings.add("row with a wrong number of columns", number, f"{columns}, found {line[:60]!r}")
        else:
            findings.add("row with a wrong value", number, wrong[text])


def _check_rows(findings: _Findings, images: Sequence[str], wanted: Sequence[str]) -> None:
    """Each image of the sample must be there once, in the sample's order, and no other."""
    if images == wanted:
        return
    place_of = {image: place for place, image in enumerate(wanted)}
    line_of: dict[str, int] = {}  # in the order of the file
    for line, image in enumerate(images, start=2):
        if image not in place_of:
            findings.add("row that is not in the sample", line, f"{image[:60]!r} is not in the sample")
        elif image in line_of:
            findings.add("double row", line, f"{image} is on line {line_of[image]} already")
        else:
            line_of[image] = line
    absent = [image for image in wanted if image not in line_of]
    if absent:
        place = place_of[absent[0]]
        line = line_of[wanted[place - 1]] + 1 if place else 2
        findings.add("missing row", line, f"{absent[0]} should be here and is missing", len(absent))
    there = (image for image in wanted if image in line_of)
    moved = [(image, found) for image, found in zip(there, line_of, strict=True) if image != found]
    if moved:
        image, found = moved[0]
        sentence = f"{found} is out of order: {image} should be here, which is on line {line_of[image]}"
        findings.add("row out of order", line_of[found], sentence, len(moved))


def _check_folder(folder: Path, wanted: VideoList, task: Task | None) -> Check:
    if not folder.is_dir():
        raise DataError(
            f"{wanted.path} is a list of videos, which wants a folder with a file for each, but {folder} is no folder."
        )
    paths = {video: folder / f"{video}.txt" for video in wanted.videos}
    there = {video: path for video, path in paths.items() if path.is_file()}
    task = task or _task_of_files(folder, list(there.values()))
    check_has_file(task, VIDEO_HEADERS)
    absent = [path.name for video, path in paths.items() if video not in there]
    others = sorted({path.name for path in folder.iterdir()} - {path.name for path in paths.values()})
    firsts, counts, n_rows = [], {}, 0
    if absent:
        firsts.append(f"{folder / absent[0]} is missing.")
        counts["missing file"] = len(absent)
    for path in there.values():
        findings = _Findings(path)
        lines = _read_lines(path, VIDEO_HEADERS[task.name], findings)
        if not lines:
            findings.add("file without rows", 1, "there are no rows after the header")
        _check_values(findings, lines, lines, task)
        n_rows += len(lines)
        firsts += [findings.first] if findings.first else []
        counts |= {kind: counts.get(kind, 0) + n for kind, n in findings.counts.items()}
    if others:
        firsts.append(f"{folder / others[0]} is of no video in {wanted.path}.")
        counts["file of no video"] = len(others)
    return Check(n_rows, len(there), firsts[0] if firsts else "", counts)


def _task_of_files(folder: Path, paths: Sequence[Path]) -> Task:
    for path in paths[:1]:
        if task := task_of_header(read_text(path).partition("\n")[0], VIDEO_HEADERS):
            return task
    raise UsageError(f"{folder} does not tell by a header what is predicted. Say it with --task.")


def identify(path: Path) -> Task:
    """The task of a submission file, or of a folder of them, by its header.

    Raises:
        DataError: nothing is there, or it cannot be read as text.
        UsageError: the header is of no task.
    """
    if path.is_dir():
        return _task_of_files(path, sorted(path.glob("[!.]*.txt")))
    task = task_of_header(read_text(path).partition("\n")[0], IMAGE_HEADERS)
    if task is None:
        raise UsageError(f"{path} does not tell by its header what is predicted. Say it with --task.")
    return task
