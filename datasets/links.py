"""Files that are read through links, as git-annex, DataLad and DVC keep all of theirs: a link is followed, wherever to."""

import os
import stat
from pathlib import Path

from abaw.errors import DataError


def check_file(path: Path) -> Path:
    """Return `path` if it is a file, or a link to one; a pipe or a device would be waited for without end.

    Raises:
        DataError: nothing is there, the link leads nowhere or in a circle, or something else is there.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        if path.is_symlink():
            raise DataError(_broken(path)) from error
        raise DataError(f"{path} cannot be read ({error.strerror}). Copy it again.") from error
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "no file but a pipe, a socket or a device"
        through = " is a link to" if path.is_symlink() else " is"
        raise DataError(f"{path}{through} {kind}, where a file should be. Move it away.")
    return path


def _broken(path: Path) -> str:
    target = os.readlink(path)  # noqa: PTH115 (a Path would change the text)
    if "annex/objects/" in target.replace("\\", "/"):
        remedy = f"get it with `git annex get {path.name}` in its folder"
    elif ".dvc" in target:
        remedy = f"get it with `dvc pull {path.name}` in its folder"
    else:
        remedy = "get it with `git annex get` or `dvc pull`, or copy the file"
    return f"{path} is a broken link: it leads to {target[:200]}, which cannot be opened; {remedy}."
