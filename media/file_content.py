"""Whether a file still has the content that it had: a file may be replaced by another of the same name and size."""

import hashlib
import os
from pathlib import Path

from abaw.core.errors import DataError
from abaw.media.links import check_file

SAMPLED_BYTES = 2**16


def content_of(file: Path | None) -> str:
    """Modification time in ns, sha256 of `sample_of`, and sha256 of the whole file; empty if it cannot be read."""
    try:
        if file is None:
            return ""
        time_ns, sample = check_file(file).stat().st_mtime_ns, sample_of(file)
        return f"{time_ns} {hashlib.sha256(sample).hexdigest()} {_hash_of(file)}"
    except (OSError, DataError):
        return ""


def content_attrs(file: Path | None) -> dict[str, str]:
    """`content_of` a file as the attribute `content` of a stored video; none where it is unknown."""
    content = content_of(file)
    return {"content": content} if content else {}


def has_content(file: Path | None, content: str) -> bool:
    """True if a file has the content of an earlier `content_of`; true, too, where that is unknown, as in old stores.

    The whole file is read only if its time has changed, as that of a copy has.
    """
    parts = content.split(" ")
    if len(parts) != 3 or file is None:
        return True
    try:
        if hashlib.sha256(sample_of(file)).hexdigest() != parts[1]:
            return False
        return str(file.stat().st_mtime_ns) == parts[0] or _hash_of(file) == parts[2]
    except OSError:
        return True  # reading it will report that


def is_same_content(first: Path, second: Path) -> bool:
    """True if two paths lead to one file, or to files of equal size with equal first, middle and last bytes."""
    try:
        if first.samefile(second):
            return True
        return first.stat().st_size == second.stat().st_size and sample_of(first) == sample_of(check_file(second))
    except (OSError, DataError):
        return False


def hash_of_sample(file: Path) -> str:
    """sha256 of `sample_of` a file; "-" if it cannot be read."""
    try:
        return hashlib.sha256(sample_of(check_file(file))).hexdigest()
    except (OSError, DataError):
        return "-"


def sample_of(file: Path) -> bytes:
    """The size of a file, and its first, middle and last bytes."""
    with file.open("rb") as stream:
        size_bytes = os.fstat(stream.fileno()).st_size
        parts = [f"{size_bytes} ".encode()]
        for start in (0, size_bytes // 2, size_bytes - SAMPLED_BYTES):
            stream.seek(max(0, start))
            parts.append(stream.read(SAMPLED_BYTES))
    return b"".join(parts)


def _hash_of(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
