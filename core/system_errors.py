"""Errors of the operating system in words: which file, what happened, and what to do.

Every error that a command does not expect passes through here, see `abaw.cli`. Libraries that lose the number of an error
are read by their words.
"""

import errno
import os
import re
import shlex
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from abaw.core.errors import DISK_FULL, AbawError, first_line

AGAIN = "run the same command again"
FAULTS = (errno.EBADF, errno.EFAULT, errno.EPIPE)  # of a program, or no error: a closed pipe ends a command silently
NUMBERED = re.compile(r"\[Errno (\d+)\]|\berrno = (\d+)|\(os error (\d+)\)")
CUT_SHORT = re.compile(r"\d+ requested and \d+ written")  # by numpy, which does not say why
NO_THREAD = re.compile(r"can't start new thread|Thread creation failed", re.IGNORECASE)
NO_MEMORY = re.compile(r"out of memory|not enough memory|can't allocate memory|cannot allocate memory", re.IGNORECASE)
TOLD = (*DISK_FULL, errno.EACCES, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOLCK, errno.ESTALE)
AWAY = (
    *(errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH),
    *(errno.ENETDOWN, errno.ENETUNREACH, errno.ENXIO, errno.ENODEV),
)
OTHER_REMEDIES = {
    errno.EIO: "Its disk reports an error: check the disk, and {again}.",
    errno.ENFILE: "All programs of this machine have too many files open: close some, and {again}.",
    errno.EXDEV: "Its place is on another disk than its folder: replace links and mounts by folders, and {again}.",
    errno.ENOLCK: "Its disk has no room for file locks: wait for other jobs, or use a local disk, and {again}.",
    errno.ENAMETOOLONG: "Its name is too long for the disk: choose a shorter one.",
    errno.ELOOP: "Its links lead in a circle: delete them.",
    errno.EISDIR: "A folder is where a file has to be: move it away, and {again}.",
    errno.ENOENT: "Something is missing on the way to it, or was deleted in the meantime: make it, and {again}.",
    errno.EEXIST: "Something else is there: move it away, and {again}.",
    errno.ENOTEMPTY: "Something else is there: move it away, and {again}.",
    errno.EBUSY: "Another program uses it: close that, and {again}.",
    errno.ETXTBSY: "Another program uses it: close that, and {again}.",
}


def system_error(error: BaseException) -> OSError | None:
    """The error of the operating system that an exception is, was raised from, or reports in words; None if none is."""
    if isinstance(error, AbawError):
        return None
    if isinstance(error, BaseExceptionGroup):
        return next(filter(None, map(system_error, error.exceptions)), None)
    if isinstance(error, OSError) and error.errno is not None:
        return None if error.errno in FAULTS else error
    if type(error).__name__ == "BrokenProcessPool":
        return OSError(errno.ENOMEM, "a worker process was ended from outside")
    number = _number_of(error)
    if number:
        return OSError(number, os.strerror(number), getattr(error, "filename", None))
    return system_error(error.__cause__) if error.__cause__ is not None else None


def lacks_threads(error: BaseException) -> bool:
    """True if an error, or what it was raised from, says that no thread could be started."""
    if isinstance(error, OSError):  # EAGAIN of a disk or a network is about these
        return False
    of_system = system_error(error)
    return of_system is not None and of_system.errno == errno.EAGAIN


def thread_error() -> OSError | None:
    """The error of a thread that is started now; None if it can be."""
    thread = threading.Thread(target=lambda: None)
    try:
        thread.start()
    except RuntimeError as error:
        return system_error(error)
    thread.join()
    return None


def _number_of(error: BaseException) -> int:
    """The number of an error that is only told in words; 0 if there is none."""
    if isinstance(error, MemoryError):
        return errno.ENOMEM
    if not isinstance(error, OSError | RuntimeError) and type(error).__module__ == "builtins":
        return 0  # a KeyError or the like is a fault, whatever its text
    text = str(error)
    if match := NUMBERED.search(text):
        return int(next(filter(None, match.groups())))
    for pattern, number in ((CUT_SHORT, errno.ENOSPC), (NO_THREAD, errno.EAGAIN), (NO_MEMORY, errno.ENOMEM)):
        if pattern.search(text):
            return number
    return next((number for number in TOLD if os.strerror(number) in text), 0)


def name_file(error: OSError, partial: Path, path: Path) -> None:
    """Let an error name the file that the user knows: `path`, in place of its temporary path or of nothing."""
    if error.filename is None:
        error.filename = str(path)
    elif isinstance(error.filename, str | os.PathLike):
        inside = Path(error.filename)
        if inside == partial or partial in inside.parents:
            error.filename = str(path / inside.relative_to(partial))


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Lets the errors of a block that writes one file name it."""
    try:
        yield
    except OSError as error:
        name_file(error, path, path)
        raise


def describe_system_error(error: OSError, other_place: str = "") -> str:
    """What happened to which file, and what to do, as a sentence or two.

    Args:
        error: it has a number.
        other_place: what to do instead of writing there, such as `Choose another folder with --runs.`
    """
    number, reason = error.errno or 0, error.strerror or first_line(error)
    path = path_of(error)
    name = str(path) if path else "A file"
    elsewhere = other_place or "Choose another folder"
    if number in DISK_FULL:
        return f"No space left to write {name if path else 'the output'} ({reason}). {_room(number, path)}"
    if number in (errno.EACCES, errno.EPERM):
        return _forbidden(path, name, reason, other_place)
    if number == errno.EROFS:
        return f"{name} cannot be written ({reason}). {elsewhere}, or make the disk writable and {AGAIN}."
    if number == errno.EMFILE:
        return f"{name} cannot be opened ({reason}). {_more_files()}"
    if number == errno.ENOMEM:
        return _no_memory(reason)
    if number == errno.EAGAIN:
        return (
            f"No more threads or processes can be started ({reason}). Close other programs, or raise the limit with "
            f"`ulimit -u`, and {AGAIN}."
        )
    if number == errno.ENOENT and "No usable temporary directory" in str(error):
        return (
            "No folder for temporary files can be written. Name one: "
            f"`mkdir -p ~/tmp && export TMPDIR=~/tmp`, and {AGAIN}."
        )
    return f"{name} cannot be read or written ({reason}). {_remedy(number, path)}"


def in_words(error: Exception) -> str:
    """An error that ends the work on one file: of the system as a sentence with a remedy, else its own text."""
    of_system = system_error(error)
    return describe_system_error(of_system) if of_system else str(error) or type(error).__name__


def path_of(error: OSError) -> Path | None:
    """The file that a user knows: of a renaming, its target."""
    for name in (error.filename2, error.filename):
        if isinstance(name, str | bytes | os.PathLike) and os.fsdecode(name):
            return Path(os.fsdecode(name))
    return None


def _remedy(number: int, path: Path | None) -> str:
    if number in AWAY:
        return f"Its disk or network is away: connect it, and {AGAIN}."
    if number == errno.ENOTDIR:
        file = next((parent for parent in path.parents if parent.is_file()), None) if path else None
        return f"{file or 'Something on the way to it'} is a file, not a folder: move it away, and {AGAIN}."
    return OTHER_REMEDIES.get(number, "Check that file and its disk, and {again}.").format(again=AGAIN)


def _room(number: int, path: Path | None) -> str:
    """How to get space for a file."""
    if number == errno.EDQUOT:
        return f"Your quota is used up, see `quota -s`: delete files of yours, and {AGAIN}."
    if number == errno.EFBIG:
        return f"Files may not become so large: raise the limit with `ulimit -f unlimited`, and {AGAIN}."
    folder = path and next((parent for parent in (path, *path.parents) if parent.is_dir()), None)
    if folder is not None and _is_temporary(folder):
        return f"Free some space in {folder}, or name a folder with more in $TMPDIR, and {AGAIN}."
    return f"Free some space and {AGAIN}."


def _is_temporary(folder: Path) -> bool:
    try:
        return folder.resolve().is_relative_to(Path(tempfile.gettempdir()).resolve())
    except OSError:
        return False


def _forbidden(path: Path | None, name: str, reason: str, other_place: str) -> str:
    """A file or its folder is closed to this user."""
    blocking, mode = (path and _blocking(path)) or (None, "")
    if blocking is None:
        where = f" with `ls -ld {shlex.quote(str(path.parent))}`" if path else ""
        return f"{name} cannot be read or written ({reason}). Check the permissions{where}, and {AGAIN}."
    verb = "read" if mode == "r" else "written"
    if blocking.stat().st_uid == os.geteuid():
        return f"{name} cannot be {verb} ({reason}). Allow it with `chmod u+{mode} {shlex.quote(str(blocking))}`."
    kind = "folder" if blocking.is_dir() else "file"
    elsewhere = other_place or ("Choose another folder" if mode != "r" else "Copy it to a folder of yours")
    return f"{name} cannot be {verb} ({reason}): the {kind} {blocking} belongs to {_owner(blocking)}. {elsewhere}."


def _blocking(path: Path) -> tuple[Path, str] | None:
    """The file or folder that does not let this user through, and the permission that is missing."""
    try:
        for parent in reversed(path.absolute().parents):
            if parent.is_dir() and not os.access(parent, os.X_OK):
                return parent, "rx"
        if path.exists() and not os.access(path, os.R_OK):
            return path, "r"
        folder = next(parent for parent in path.absolute().parents if parent.is_dir())
        if not os.access(folder, os.W_OK):  # files are written next to their place
            return folder, "w"
        return (path, "w") if path.exists() and not os.access(path, os.W_OK) else None
    except OSError:
        return None


def _owner(path: Path) -> str:
    try:
        return path.owner()
    except (KeyError, OSError, NotImplementedError):  # users of another machine have only a number
        return f"user {path.stat().st_uid}"


def _more_files() -> str:
    """How to open more files than this process may."""
    if sys.platform == "win32":
        return f"Close other programs, and {AGAIN}."
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if soft < hard < 2**20 else max(4096, 2 * soft)
    by_whom = "" if soft < hard else " (ask whoever set the limit)"
    return f"This process may open {soft}: raise the limit with `ulimit -n {wanted}`{by_whom}, and {AGAIN}."


def _no_memory(reason: str) -> str:
    return (
        f"The memory is used up ({reason}). Close other programs, use fewer features or a smaller batch, or take a "
        f"machine with more, and {AGAIN}."
    )
