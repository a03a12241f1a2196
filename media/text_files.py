"""Text files from Windows, old Macs, and editors that leave byte order marks and blank lines at the end."""

import codecs
import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from abaw.core.errors import DataError
from abaw.media.links import check_file, read_bytes

# Longer marks first: that of UTF-32 begins like that of UTF-16.
MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
BLOCK = 2**20  # characters
LONGEST_HEADER = 10_000  # characters
LONGEST_LINE = 2**20  # characters; tables of py-feat 2 have 2,000 columns
OTHER_MARKS = (";", "\t", "|")
END_OF_FILE = "\x1a"  # Ctrl-Z, which ends text files of DOS
# no character after U+3000 is a space
BLANK = "".join(c for c in map(chr, range(0x3001)) if c.isspace()) + END_OF_FILE + "\u200b\ufeff"


def read_text(path: Path, is_named: bool = False) -> str:
    r"""The text of a file without a byte order mark, its lines ended by "\n" alone; UTF-8 if no mark says otherwise.

    Args:
        is_named: the user named this file, so it may be a pipe, such as from `<(...)`.

    Raises:
        DataError: it cannot be read as text.
    """
    try:
        content = path.read_bytes() if is_named and path.is_fifo() else read_bytes(path)
        text = content.decode(_encoding_of(content[:4]))
    except UnicodeError as error:
        raise DataError(f"{path} cannot be read as text ({error}). Save it as UTF-8, or copy it again.") from error
    del content  # saves memory for large files
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


@contextmanager
def open_text(path: Path) -> Iterator[IO[str]]:
    """A text file of any length, opened for reading; ends of lines are not changed.

    Raises:
        DataError: it cannot be opened.
    """
    try:
        with check_file(path).open("rb") as content:
            encoding = _encoding_of(content.read(4))
        stream = path.open(encoding=encoding, newline="")
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror}). Copy it again, or check its permissions."
        ) from error
    with stream:
        yield stream


def bounded_lines(stream: IO[str], path: Path) -> Iterator[str]:
    """The lines of an open text file, none of which takes more memory than `LONGEST_LINE`.

    Args:
        path: of the file, for errors.

    Raises:
        DataError: a line is longer.
    """
    while line := stream.readline(LONGEST_LINE + 1):
        _check_length(len(line), path)
        yield line


def _check_length(n_characters: int, path: Path) -> None:
    if n_characters > LONGEST_LINE:
        raise DataError(f"{path} has a line of more than {LONGEST_LINE:,} characters. Write a line for each row.")


def header_of(path: Path) -> list[str]:
    """The cells in the first line of a CSV file; none of a file that cannot be read."""
    try:
        with open_text(path) as stream:
            return [cell.strip() for cell in next(csv.reader([stream.readline(LONGEST_HEADER)]), [])]
    except (DataError, UnicodeError, csv.Error):
        return []


def check_commas(path: Path, header: Sequence[str]) -> None:
    """Raise a DataError if the only cell of a header has another mark, which other programs write between cells."""
    mark = next((mark for mark in OTHER_MARKS if len(header) == 1 and mark in header[0]), "")
    if mark:
        raise DataError(f"{path} line 1: its cells are separated by {mark!r}. Save the table with commas.")


def read_lines(path: Path, is_named: bool = False) -> list[str]:
    """The lines of a text file without their ends, which are LF, CRLF or CR and nothing else.

    Blank lines at the end (spaces, tabs, non-breaking spaces, a Ctrl-Z) are dropped; earlier ones are kept. An empty
    file has no lines.

    Args:
        is_named: see `read_text`.

    Raises:
        DataError: it cannot be read as text, or has a line of more than `LONGEST_LINE`.
    """
    text = without_blank_end(read_text(path, is_named))
    lines = text.split("\n") if text else []
    _check_length(max(map(len, lines), default=0), path)
    return lines


def read_blocks(path: Path) -> Iterator[list[str]]:
    """The lines of `read_lines`, some thousands at a time, which needs far less memory for a large file.

    Raises:
        DataError: it cannot be read as text, or has a line of more than `LONGEST_LINE`.
    """
    text = without_blank_end(read_text(path))
    start = 0
    while start < len(text):
        end = text.find("\n", start + BLOCK)
        end = end if end >= 0 else len(text)
        lines = text[start:end].split("\n")
        _check_length(max(map(len, lines)), path)
        yield lines
        start = end + 1


def _encoding_of(start: bytes) -> str:
    return next((encoding for mark, encoding in MARKS if start.startswith(mark)), "utf-8-sig")


def without_blank_end(text: str) -> str:
    """A text without the lines at its end that look blank, and without the end of its last line."""
    last = len(text.rstrip(BLANK))
    end = text.find("\n", last) if last else 0
    return (text if end < 0 else text[:end]).rstrip(END_OF_FILE)
