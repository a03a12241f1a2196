"""Hashes by which an import knows whether files have changed since an earlier one."""

import hashlib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from abaw.media.file_content import hash_of_sample
from abaw.media.links import check_file


def stamp(files: Iterable[Path]) -> str:
    """sha256 over names, sizes and modification times of files; links are followed.

    Raises:
        DataError: one is not a file, or is a broken link.
    """
    digest = hashlib.sha256()
    for file in files:
        status = check_file(file).stat()
        digest.update(f"{file.name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def sample_stamp(files: Iterable[Path]) -> str:
    """sha256 over the first, middle and last bytes of files. One that holds many videos is read once.

    Raises:
        OSError: one cannot be opened.
    """
    digest = hashlib.sha256()
    for file in files:
        status = file.stat()
        digest.update(_hash_of_sample(file, status.st_ino, status.st_mtime_ns, status.st_ctime_ns).encode())
    return digest.hexdigest()


@lru_cache(maxsize=256)
def _hash_of_sample(file: Path, *status: int) -> str:
    return hash_of_sample(file)
