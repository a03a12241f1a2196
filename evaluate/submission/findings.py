"""Problems of submission files: counting them, and comparing the names in a file with those of the sample."""

import codecs
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from abaw.core.names import same_video
from abaw.media.text_files import MARKS

MOST_COMPARED = 1_000  # names of the sample, for a suggestion
BYTE_ORDER_MARKS = (codecs.BOM_UTF8, *(mark for mark, _ in MARKS))


@dataclass(frozen=True)
class Check:
    """The problems of a submission file, or of a folder of them.

    Attributes:
        n_rows, n_videos: rows and videos in it; 0 videos for images without a time axis.
        first: the first problem as a sentence with its line; empty if there are no problems.
        counts: number of problems of each kind, including the first.
    """

    n_rows: int
    n_videos: int
    first: str
    counts: dict[str, int]


class Findings:
    """Counts problems and keeps the first: the one on the lowest line, or added first on that line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.counts: dict[str, int] = {}
        self._line = 0
        self._sentence = ""

    def add(self, kind: str, line: int, sentence: str, n: int = 1) -> None:
        """Add `n` problems of a kind, the first of them on `line`."""
        self.counts[kind] = self.counts.get(kind, 0) + n
        if not self._sentence or line < self._line:
            self._line, self._sentence = line, sentence

    @property
    def first(self) -> str:
        """A sentence with file and line; empty if there is no problem."""
        return f"{self.path} line {self._line}: {self._sentence}." if self._sentence else ""


def check_mark(findings: Findings, path: Path) -> None:
    """A file must not begin with a byte order mark, which other programs take for a part of its first cell."""
    with path.open("rb") as file:
        if file.read(max(map(len, BYTE_ORDER_MARKS))).startswith(BYTE_ORDER_MARKS):
            findings.add("byte order mark", 1, "it begins with a byte order mark; save the file as UTF-8 without one")


def check_names(findings: Findings, images: Sequence[str], expected: Sequence[str], first_line: int = 2) -> None:
    """The file must name the images of the sample as often as the sample does, in its order, and no others.

    Args:
        first_line: the line of the first name.
    """
    if images == expected:
        return
    position_of = {row: position for position, row in enumerate(_numbered(expected))}
    line_of: dict[tuple[str, int], int] = {}  # in the order of the file
    for line, (image, n_before) in enumerate(_numbered(images), start=first_line):
        if (image, n_before) in position_of:
            line_of[image, n_before] = line
        elif (image, 0) in position_of:
            findings.add("double row", line, f"{image} is already on line {line_of[image, n_before - 1]}")
            line_of.setdefault((image, n_before), line_of[image, n_before - 1])
        else:
            is_first = "row that is not in the sample" not in findings.counts
            near = same_video(image, expected[:MOST_COMPARED]) if is_first else ""
            asked = f", which has {near}" if near else ""
            findings.add("row that is not in the sample", line, f"{image[:60]!r} is not in the sample{asked}")
    line_of = {row: line for row, line in line_of.items() if row in position_of}
    rows = list(position_of)
    missing = [row for row in rows if row not in line_of]
    if missing:
        position = position_of[missing[0]]
        line = line_of[rows[position - 1]] + 1 if position else first_line
        findings.add("missing row", line, f"{_named(missing[0])} should be here and is missing", len(missing))
    present = (row for row in rows if row in line_of)
    moved = [(row, other) for row, other in zip(present, line_of, strict=True) if row != other]
    if moved:
        row, other = moved[0]
        sentence = f"{_named(other)} is out of order: {_named(row)} should be here, which is on line {line_of[row]}"
        findings.add("row out of order", line_of[other], sentence, len(moved))


def _numbered(images: Sequence[str]) -> list[tuple[str, int]]:
    """Each image with the number of rows of the same image before it."""
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
