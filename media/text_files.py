"""Text files as people have them: from Windows, from old Macs, out of editors that leave marks and blank ends."""

import codecs
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from abaw.core.errors import DataError
from abaw.media.links import check_file, read_bytes

# The longer mark first: that of UTF-32 begins as that of UTF-16.
MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
BLOCK = 2**20  # characters
END_OF_FILE = "\x1a"  # Ctrl-Z, with which DOS ended its text files
BLANK = "".join(c for c in map(chr, range(0x10000)) if c.isspace()) + END_OF_FILE + "\u200b\ufeff"


def read_text(path: Path, is_named: bool = False) -> str:
    r"""The text of a file without a byte order mark, its lines ended by "\n" alone; UTF-8 if no mark says otherwise.

    Args:
        is_named: the user named this very file, which may be a pipe then, as of `<(...)`.

    Raises:
        DataError: it cannot be read as text.
    """
    try:
        content = path.read_bytes() if is_named and path.is_fifo() else read_bytes(path)
        text = content.decode(_encoding_of(content[:4]))
    except UnicodeError as error:
        raise DataError(f"{path} cannot be read as text ({error}). Copy it again.") from error
    del content  # of large files one copy is enough
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
        raise DataError(f"{path} cannot be read ({error.strerror}). Copy it again, or see that you may.") from error
    with stream:
        yield stream


def read_lines(path: Path, is_named: bool = False) -> list[str]:
    """The lines of a text file without their ends, which are LF, CRLF or CR and nothing else.

    Lines at the end that look blank (spaces, tabs, spaces that do not break, a Ctrl-Z) are dropped, those before are
    kept. An empty file has no lines.

    Args:
        is_named: see `read_text`.

    Raises:
        DataError: it cannot be read as text.
    """
    text = without_blank_end(read_text(path, is_named))
    return text.split("\n") if text else []


def read_blocks(path: Path) -> Iterator[list[str]]:
    """The lines that `read_lines` gives, some thousands at a time: a large file takes far less memory so.

    Raises:
        DataError: it cannot be read as text.
    """
    text = without_blank_end(read_text(path))
    start = 0
    while start < len(text):
        end = text.find("\n", start + BLOCK)
        end = end if end >= 0 else len(text)
        yield text[start:end].split("\n")
        start = end + 1


def _encoding_of(start: bytes) -> str:
    return next((encoding for mark, encoding in MARKS if start.startswith(mark)), "utf-8-sig")


def without_blank_end(text: str) -> str:
    """A text without the lines at its end that look blank, and without the end of its last line."""
    last = len(text.rstrip(BLANK))
    end = text.find("\n", last) if last else 0
    return (text if end < 0 else text[:end]).rstrip(END_OF_FILE)
