"""Reading files through links, which git-annex, DataLad and DVC use for all files. Links are followed anywhere."""

import errno
import os
import stat
from pathlib import Path

from abaw.core.errors import DataError


def check_file(path: Path) -> Path:
    """Return `path` if it is a file or a link to one; reading a pipe or a device could block forever.

    Raises:
        DataError: the path does not exist, is a broken or circular link, or is not a file.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise DataError(f"{path} is a circular link. Delete it, or replace it with the file.") from error
        if path.is_symlink():
            raise DataError(_broken(path)) from error
        raise DataError(f"{path} cannot be read ({error.strerror}). Copy it again.") from error
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe, a socket or a device"
        through = " is a link to" if path.is_symlink() else " is"
        raise DataError(f"{path}{through} {kind}, where a file should be. Move it away.")
    return path


def read_bytes(path: Path | str) -> bytes:
    """The content of a file, or of the file that a link leads to; see `check_file`."""
    try:
        with open(path, "rb", opener=_open_at_once) as stream:
            if stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                return stream.read()
    except OSError as error:
        check_file(Path(path))
        raise DataError(
            f"{path} cannot be read ({error.strerror}). Copy it again, or check its permissions."
        ) from error
    check_file(Path(path))
    raise DataError(f"{path} was replaced while it was read. Run the same command again.")


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # opens a pipe without waiting for a writer


def is_broken(path: Path) -> bool:
    """True for a broken or circular link."""
    return path.is_symlink() and not path.exists()


def _broken(path: Path) -> str:
    target = os.readlink(path)  # noqa: PTH115 (a Path would change the text)
    if "annex/objects/" in target.replace("\\", "/"):
        remedy = f"get it with `git annex get {path.name}` in its folder"
    elif ".dvc" in target:
        remedy = f"get it with `dvc pull {path.name}` in its folder"
    else:
        remedy = "get it with `git annex get` or `dvc pull`, or copy the file"
    return f"{path} is a broken link: it leads to {target[:200]}, which cannot be opened; {remedy}."
