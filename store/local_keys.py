"""Keys of a store in a folder, read and deleted without Zarr, whose event loop takes several times as long as the files."""

import errno
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from io import FileIO
from itertools import chain
from pathlib import Path

from abaw.core.read_ahead import map_ahead

AT_ONCE = 64  # files that a thread reads, or folders that it deletes, in turn
N_THREADS = 4  # a network file system, or a disk that is busy, does several things at a time
NO_FILE = (FileNotFoundError, IsADirectoryError, NotADirectoryError)  # as Zarr sees them


def read_file(path: str) -> bytes | None:
    """The content of a file; None if there is none."""
    try:
        with FileIO(path) as file:
            return file.readall()
    except NO_FILE:
        return None


def read_files(paths: Sequence[str]) -> list[bytes | None]:
    """The contents of some files; None for one that does not exist, or is a link to itself."""
    parts = [paths[start : start + AT_ONCE] for start in range(0, len(paths), AT_ONCE)]
    return list(chain.from_iterable(map_ahead(_read_in_turn, parts, N_THREADS if len(parts) > 1 else 1)))


def _read_in_turn(paths: Sequence[str]) -> list[bytes | None]:
    contents = []
    for path in paths:
        try:
            contents.append(read_file(path))
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            contents.append(None)
    return contents


def list_folder(path: str) -> list[str]:
    """Names of what is in a folder, in any order; none if there is no folder."""
    try:
        return os.listdir(path)  # noqa: PTH208  # pathlib makes a path of each name, which takes longer
    except (FileNotFoundError, NotADirectoryError):
        return []


def delete_folder(path: Path, first: str) -> None:
    """Delete a folder with all that is in it; what another process deletes meanwhile does not matter.

    Args:
        first: name of a file in it that is deleted before all others.
    """
    with suppress(FileNotFoundError, IsADirectoryError, PermissionError):  # the latter for a folder on macOS
        (path / first).unlink()
    with suppress(FileNotFoundError):
        shutil.rmtree(path)
