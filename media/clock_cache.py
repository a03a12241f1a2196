"""Small results of long work on a file, kept for the next time: arrays, in the user's cache folder.

They are told by what is in the file: its size, its time of change, and its first, middle and last bytes, so that links
and copies that keep the time share one. Where the folder cannot be written, nothing is kept.
"""

import hashlib
import os
import tempfile
import zipfile
from contextlib import suppress
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from abaw.core.errors import DataError
from abaw.media.links import check_file

VERSION = 1  # of what is kept; with that of the decoder
SAMPLED_BYTES = 2**16


def folder() -> Path | None:
    """`$ABAW_CACHE`, else `$XDG_CACHE_HOME/abaw` or `~/.cache/abaw`; None where there is no home."""
    if own := os.environ.get("ABAW_CACHE"):
        return Path(own)
    if caches := os.environ.get("XDG_CACHE_HOME"):
        return Path(caches) / "abaw"
    with suppress(RuntimeError):
        return Path.home() / ".cache" / "abaw"
    return None


def key_of(file: Path) -> str:
    """What a file's results are kept under.

    Raises:
        DataError: it is no file.
        OSError: it cannot be read.
    """
    status = check_file(file).stat()
    text = f"{VERSION} {av.__version__} {status.st_mtime_ns} "
    return hashlib.sha256(text.encode() + _sample(file)).hexdigest()


def is_same_content(one: Path, other: Path) -> bool:
    """True if two files are one, or as long and alike at their beginning, middle and end."""
    try:
        if one.samefile(other):
            return True
        return one.stat().st_size == other.stat().st_size and _sample(one) == _sample(check_file(other))
    except (OSError, DataError):
        return False


def _sample(file: Path) -> bytes:
    """The size of a file, and what stands at its beginning, in its middle and at its end."""
    with file.open("rb") as stream:
        size_bytes = os.fstat(stream.fileno()).st_size
        parts = [f"{size_bytes} ".encode()]
        for start in (0, size_bytes // 2, size_bytes - SAMPLED_BYTES):
            stream.seek(max(0, start))
            parts.append(stream.read(SAMPLED_BYTES))
    return b"".join(parts)


def load(key: str) -> dict[str, NDArray] | None:
    """What was kept under a key; None if that is nothing, or damaged."""
    place = folder()
    if place is None:
        return None
    try:
        with np.load(place / f"{key}.npz", allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None


def save(key: str, arrays: dict[str, NDArray]) -> None:
    """Keep arrays under a key, whole or not at all."""
    place = folder()
    if place is None:
        return
    with suppress(OSError):
        place.mkdir(parents=True, exist_ok=True)
        number, name = tempfile.mkstemp(suffix=".partial", dir=place)
        try:
            with os.fdopen(number, "wb") as stream:
                np.savez_compressed(stream, allow_pickle=False, **arrays)
            Path(name).replace(place / f"{key}.npz")
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
