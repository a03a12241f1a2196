"""Files that unpack to far more than they hold: zeros compress to a thousandth, and an array may claim any shape."""

import zipfile
from pathlib import Path

FREE_BYTES = 2**28  # that anything may unpack to
MAX_RATIO = 100  # features hardly compress, and masks are small


def unpacks_too_far(n_bytes: float, n_stored: int) -> bool:
    """True if so many bytes of values come of so few that are stored that nobody would store them."""
    return n_bytes > max(FREE_BYTES, MAX_RATIO * n_stored)


def claims_of(file: Path) -> str:
    """Why a zip archive is not unpacked: a clause; empty if it holds about what it says, and for other files.

    torch.save does not compress; members that share their bytes count as often as they are listed.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            n_bytes = sum(member.file_size for member in archive.infolist())
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        return ""  # who reads the file says what is wrong
    n_stored = file.stat().st_size
    return f"its {n_stored:,} bytes unpack to {n_bytes:,}" if n_bytes > FREE_BYTES + 2 * n_stored else ""
