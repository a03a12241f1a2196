"""The errors a user can see. Each message says what is wrong, what was found and what to do."""

import difflib
import errno
from collections.abc import Sequence

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
MAX_LENGTH = 10_000  # characters of a message


def printable(text: str) -> str:
    """A text in one line of printable characters. Names in files may have others, such as terminal escape codes."""
    if len(text) > MAX_LENGTH:  # long lists are in the middle, what to do is at the end
        text = f"{text[: MAX_LENGTH // 2]} [...] {text[-MAX_LENGTH // 2 :]}"
    if text.isprintable():
        return text
    line = " ".join(text.splitlines())
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in line)


def some_of(names: Sequence[str], most: int) -> str:
    """The first of many names, for a sentence: `a, b, c and 4 more`."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


LEAST_START = 3  # letters by which a longer name is known


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """A question with the names that are most like a mistyped one, and a space after it; empty if none is like it."""
    near = _most_like(name, known)
    return f"Did you mean {' or '.join(near)}? " if near else ""


def _most_like(name: str, known: Sequence[str]) -> list[str]:
    """Up to three names that differ by a slip or by capitals, else those that begin with the name."""
    near = difflib.get_close_matches(name, known, n=3)
    if not near:
        written = {one.casefold(): one for one in reversed(known)}
        near = [written[one] for one in difflib.get_close_matches(name.casefold(), list(written), n=3)]
    is_start = len(name) >= LEAST_START
    return near or [one for one in known if is_start and one.casefold().startswith(name.casefold())][:3]


def is_disk_full(error: Exception) -> bool:
    """True if a disk, a quota or the largest size of a file is exhausted."""
    return getattr(error, "errno", None) in DISK_FULL


def disk_trouble(error: OSError, target: str) -> str:
    """Why nothing more can be written to a disk, and what to do; empty if only one file is affected.

    Args:
        target: what was being written, such as `video into store.zarr`.
    """
    if is_disk_full(error):
        return f"no space left to write {target} ({error.strerror}); free some space and run the same command again"
    if error.errno == errno.EROFS:
        return f"{target} can no longer be written ({error.strerror}); check the disk and run the same command again"
    return ""


class AbawError(Exception):
    """Base of the errors that `abaw` raises on purpose. The command line prints the message and exits with `exit_code`.

    Attributes:
        exit_code: 1 if the work failed, 2 if the command was used wrongly.
    """

    exit_code = 1

    def __init__(self, sentence: str = "") -> None:
        super().__init__(printable(sentence))


class UsageError(AbawError):
    """An invalid option or an unknown name: the command must be called differently."""

    exit_code = 2


class DataError(AbawError):
    """A file of the dataset (crop, label, video) is missing or broken."""


class StoreError(AbawError):
    """The feature store is missing, damaged, or has other contents than requested."""


class UnreachableError(StoreError):
    """Part of the store cannot be read at the moment; the stored data may be fine."""


class CheckpointError(AbawError):
    """A weights file or a run cannot be loaded."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message; its type if it has no message."""
    return next(iter(str(error).splitlines()), "")[:300] or type(error).__name__
