"""Files and folders that are written under a temporary name and renamed when they are complete.

A temporary name has the number of the process and random letters, so that two processes never write one file. What dead
processes left is deleted by a command that has claimed the target, see `abaw.core.claim_files`. Links are never followed.
"""

import hashlib
import json
import math
import os
import re
import secrets
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from abaw.core.claim_files import check_claims, must_sweep
from abaw.core.errors import UsageError
from abaw.core.names import MAX_NAME_BYTES
from abaw.core.system_errors import name_file

Place = Path | str
_used: set[str] = set()  # temporary names that this process is writing


def clear(path: Path) -> Path:
    """Delete a file, a link (not its target), or a folder with its content. Returns the path."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
    return path


def check_folder_of(path: Path) -> None:
    """Raise a UsageError if a file cannot be made there: its folder is missing or read-only, or the path is a folder."""
    if path.is_dir():
        raise UsageError(f"{path} is a folder. Name the file to write.")
    if not path.parent.is_dir():
        command = f"mkdir -p {shlex.quote(str(path.parent))}"
        raise UsageError(f"{path} cannot be written: there is no folder {path.parent}. Make it with `{command}`.")
    if not os.access(path.parent, os.W_OK):
        raise UsageError(f"{path} cannot be written: its folder is read-only. Choose another.")


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Yields the temporary path of a file or folder, which replaces `path` if the block succeeds and is deleted if not.

    Raises:
        UsageError: `path` is a folder.
        LostClaimError: another process took over what this one is writing.
    """
    partial = new_partial(path)
    try:
        yield partial
        check_claims()
        partial.replace(path)
    except BaseException as error:
        if isinstance(error, OSError):
            name_file(error, partial, path)
        with suppress(OSError):  # the first error says more
            clear(partial)
        raise
    finally:
        _used.discard(partial.name)


def link_or_copy(source: Path, target: Path) -> None:
    """Make `target` a hard link to a file that is only ever replaced, never changed, or a copy where links cannot be."""
    with writing(target) as partial:
        try:
            os.link(source, partial)
        except OSError:
            shutil.copyfile(source, partial)


def new_partial(path: Path) -> Path:
    """A temporary path for a file, next to it, that no other process takes.

    What dead processes left of the file is deleted if this process has claimed it.

    Raises:
        UsageError: `path` is a folder.
    """
    if path.is_dir() and not path.is_symlink():
        raise UsageError(f"{path} is a folder, but a file is to be written there. Move it away.")
    sweep(path)
    ending = f".{os.getpid()}-{secrets.token_hex(4)}"
    partial = path.with_name(partial_name(path.name, ending))
    _used.add(partial.name)
    return partial


def sweep(path: Path) -> None:
    """Delete what dead processes left of a file, also under the names that older versions took; once under a claim."""
    if not must_sweep(path):
        return
    stems = {re.escape(path.name), hashlib.sha256(os.fsencode(path.name)).hexdigest()}
    pattern = re.compile(rf"({'|'.join(stems)})(\.\d+-[0-9a-f]{{8}})?\.partial")
    with os.scandir(path.parent) as entries:
        left = [entry.name for entry in entries if pattern.fullmatch(entry.name) and entry.name not in _used]
    for name in left:
        clear(path.with_name(name))


def partial_name(name: str, ending: str = "") -> str:
    """The temporary name of a file: it ends in `.partial`, and a name that is too long is replaced by its hash."""
    partial = f"{name}{ending}.partial"
    if len(os.fsencode(partial)) <= MAX_NAME_BYTES:
        return partial
    return f"{hashlib.sha256(os.fsencode(name)).hexdigest()}{ending}.partial"


def is_url(location: Place) -> bool:
    """True for `s3://...` and the like."""
    return "://" in str(location)


def save_json(path: Path, content: Any) -> None:
    """Write a JSON file atomically."""
    with writing(path) as partial:
        partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def or_null(value: float) -> float | None:
    """A number for a JSON file: None in place of NaN, which JSON does not have."""
    return None if math.isnan(value) else value
