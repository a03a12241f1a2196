"""The errors a user can meet. Each message says what was wrong, what was found and what to do."""

import errno
from collections.abc import Sequence

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
LONGEST = 10_000  # characters of a sentence


def printable(text: str) -> str:
    """A text in one line whose characters can all be shown: names in files may have others, which steer a terminal."""
    if len(text) > LONGEST:  # what was found stands in the middle, what to do at the end
        text = f"{text[: LONGEST // 2]} [...] {text[-LONGEST // 2 :]}"
    if text.isprintable():
        return text
    shown = (one if one.isprintable() else one.encode("unicode_escape").decode() for one in " ".join(text.splitlines()))
    return "".join(shown)


def some_of(names: Sequence[str], most: int) -> str:
    """The first of many names for a sentence: `a, b, c and 4 more`."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def disk_trouble(error: OSError, what: str) -> str:
    """Why nothing more can be written to a disk, and what to do; empty if the error is about one file alone.

    Args:
        what: what was to be written, as `video into store.zarr`.
    """
    if error.errno in DISK_FULL:
        return f"no space to write {what} ({error.strerror}); make room and run the same command again"
    if error.errno == errno.EROFS:
        return f"{what} must not be written any more ({error.strerror}); see to the disk and run the same command again"
    return ""


class AbawError(Exception):
    """Base of all errors that `abaw` raises on purpose; the command line prints one as a sentence.

    `exit_code` is 1 when the work failed and 2 when the command was used wrongly.
    """

    exit_code = 1

    def __init__(self, sentence: str = "") -> None:
        super().__init__(printable(sentence))


class UsageError(AbawError):
    """A wrong option or an unknown name: the command has to be called differently."""

    exit_code = 2


class DataError(AbawError):
    """A file of the dataset (crop, label, video) is missing or broken."""


class StoreError(AbawError):
    """The feature store is missing, damaged, or holds something else than was asked for."""


class UnreachableError(StoreError):
    """A part of the store cannot be read just now, which says nothing of what is stored there."""


class CheckpointError(AbawError):
    """A weights file or a run cannot be loaded."""


def first_line(error: BaseException) -> str:
    """What an error says, without its details."""
    return next(iter(str(error).splitlines()), "")[:300] or type(error).__name__
