"""Folders of runs and ensembles get their name when they are complete: one without a config is no run, and blocks no name."""

from collections.abc import Callable
from errno import EEXIST, ENOTEMPTY
from pathlib import Path

from abaw.core.errors import UsageError
from abaw.core.files import clear, writing
from abaw.train.run_files import CONFIG, ENSEMBLE, INITIAL, PARTIAL


def make_run_folder(folder: Path, fill: Callable[[Path], None]) -> bool:
    """Make a folder with what `fill` writes into it, all at once.

    Returns:
        False if there is something of this name, from before or just made by another process.
    """
    if is_taken(folder):
        return False
    try:
        _remove_leftovers(folder)
        with writing(folder) as partial:
            partial.mkdir()
            fill(partial)
    except OSError as error:
        if error.errno in (EEXIST, ENOTEMPTY):  # another process was quicker
            return False
        raise
    return True


def _remove_leftovers(folder: Path) -> None:
    if folder.is_dir():
        for path in folder.iterdir():
            clear(path)
        folder.rmdir()


def is_taken(folder: Path) -> bool:
    """True unless a run can have this name: there is nothing, or what earlier versions left when they were killed."""
    if folder.is_symlink() or not folder.is_dir():
        return folder.is_symlink() or folder.exists()
    return any(path.name != INITIAL and path.suffix != PARTIAL for path in folder.iterdir())


def check_free(folder: Path) -> None:
    """Raise a UsageError if a new run cannot have this folder."""
    if (folder / CONFIG).is_file():
        raise UsageError(f"Run {folder} already exists. Continue it with --resume, or choose another --run.")
    if is_taken(folder):
        what = "an ensemble" if (folder / ENSEMBLE).is_file() else f"no run: it has no {CONFIG}"
        raise UsageError(f"{folder} already exists and is {what}. Choose another --run.")
