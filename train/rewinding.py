"""Going back to a checkpoint that a run keeps."""

import filecmp
import shutil
from pathlib import Path

from abaw.core.errors import UsageError
from abaw.core.files import link_or_copy, sweep
from abaw.train.run_files import LAST, UNFINISHED, kept_folders


def rewind(folder: Path, epoch: int) -> None:
    """Go back to a kept checkpoint of a run: training continues after that epoch, and later checkpoints are deleted.

    Raises:
        UsageError: there is none of the epoch; the message lists those that exist.
    """
    folders = kept_folders(folder)
    kept = {epochs: path for epochs, path in folders.items() if (path / LAST).is_file()}
    if epoch not in kept:
        known = ", ".join(f"{epochs:g}" for epochs in kept) or "none: keep them with --set save_every=1"
        raise UsageError(f"Run {folder.name} has no checkpoint of epoch {epoch} to resume from; it has {known}.")
    (folder / UNFINISHED).unlink(missing_ok=True)
    link_or_copy(kept[epoch] / LAST, folder / LAST)
    finish_rewind(folder, epoch)


def finish_rewind(folder: Path, epoch: int) -> None:
    """Do the rest of `rewind`, which may have been cut short, for a run without an unfinished epoch.

    Args:
        epoch: of the last checkpoint.
    """
    folders = kept_folders(folder)
    if epoch in folders and (folders[epoch] / LAST).is_file():
        for path in folders[epoch].glob("best*.safetensors"):
            best = folder / path.name
            if not (best.is_file() and filecmp.cmp(path, best, shallow=False)):
                link_or_copy(path, best)
    for epochs, path in folders.items():
        if epochs > epoch:
            shutil.rmtree(path)


def sweep_checkpoints(folder: Path) -> None:
    """Delete what a killed process left of checkpoints that it did not finish: they may not be written again."""
    for path in (folder / LAST, folder / UNFINISHED, *folder.glob("best*.safetensors")):
        sweep(path)
