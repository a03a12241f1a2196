"""Places where files are made before they get their names. What lies there is deleted, and links are never followed."""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from abaw.core.errors import UsageError
from abaw.core.names import MAX_NAME_BYTES

Place = Path | str


def clear(path: Path) -> Path:
    """Delete what is at a path, a folder with all that is in it; of a link only the link. Returns the path."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
    return path


def new_partial(path: Path) -> Path:
    """The name beside a file under which it is written, until it replaces the old one; nothing is there.

    Raises:
        UsageError: a folder has the name of the file.
    """
    if path.is_dir() and not path.is_symlink():
        raise UsageError(f"{path} is a folder where a file is to be written. Move it away.")
    return clear(path.with_name(partial_name(path.name)))


def partial_name(name: str) -> str:
    """The name under which something is made that gets another one: with `.partial`, or of its hash where that is too long."""
    partial = f"{name}.partial"
    if len(os.fsencode(partial)) <= MAX_NAME_BYTES:
        return partial
    return f"{hashlib.sha256(os.fsencode(name)).hexdigest()}.partial"


def is_url(place: Place) -> bool:
    """True for `s3://...` and the like."""
    return "://" in str(place)


def save_json(path: Path, content: Any) -> None:
    """Write JSON so that the file is either the old or the new one."""
    partial = new_partial(path)
    partial.write_text(json.dumps(content, indent=2) + "\n")
    partial.replace(path)
