"""A cache, in the user's cache folder, for small arrays that are slow to compute from a file.

The key covers the size of the file, its modification time, and its first, middle and last bytes, so that links and
copies with the same time share an entry. If the folder cannot be written, nothing is cached.
"""

import hashlib
import os
import tempfile
import threading
import time
import zipfile
from contextlib import suppress
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from abaw.media.file_content import sample_of
from abaw.media.links import check_file

VERSION = 1  # of the entries; the key has the decoder's version, too
SETTLED_NS = 10**9  # a file that changed more recently may change again within the same time stamp
MOST_KEYS = 4096

_keys: dict[tuple[int, ...], str] = {}  # by file status, so that a process reads the bytes of a file once
_guard = threading.Lock()


def folder() -> Path | None:
    """`$ABAW_CACHE`, else `$XDG_CACHE_HOME/abaw` or `~/.cache/abaw`; None if there is no home folder."""
    if configured := os.environ.get("ABAW_CACHE"):
        return Path(configured)
    if caches := os.environ.get("XDG_CACHE_HOME"):
        return Path(caches) / "abaw"
    with suppress(RuntimeError):
        return Path.home() / ".cache" / "abaw"
    return None


def key_of(file: Path) -> str:
    """The key of a file's entry. A process reads the bytes of an unchanged file only once.

    Raises:
        DataError: it is not a file.
        OSError: it cannot be read.
    """
    status = check_file(file).stat()
    identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    with _guard:
        if identity in _keys:
            return _keys[identity]
    text = f"{VERSION} {av.__version__} {status.st_mtime_ns} "
    key = hashlib.sha256(text.encode() + sample_of(file)).hexdigest()
    if time.time_ns() - status.st_ctime_ns > SETTLED_NS:
        with _guard:
            if len(_keys) >= MOST_KEYS:
                _keys.clear()
            _keys[identity] = key
    return key


def load(key: str) -> dict[str, NDArray] | None:
    """The entry of a key; None if it is missing or damaged."""
    cache = folder()
    if cache is None:
        return None
    try:
        with np.load(cache / f"{key}.npz", allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None


def save(key: str, arrays: dict[str, NDArray]) -> None:
    """Write the entry of a key atomically."""
    cache = folder()
    if cache is None:
        return
    with suppress(OSError):
        cache.mkdir(parents=True, exist_ok=True)
        # another process may write the same entry, so each has its own temporary file
        number, name = tempfile.mkstemp(suffix=".partial", dir=cache)
        try:
            with os.fdopen(number, "wb") as stream:
                np.savez_compressed(stream, allow_pickle=False, **arrays)
            Path(name).replace(cache / f"{key}.npz")
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
