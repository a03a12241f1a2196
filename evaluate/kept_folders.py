"""Folders next to runs that hold predictions of other programs; see `abaw.evaluate.kept_scores`."""

from pathlib import Path

KEPT = "tables.json"


def find_kept_folder(runs: Path, name: str) -> Path | None:
    """The folder of predictions that were kept under a name, or its path; None if there is none."""
    return next((folder for folder in (runs / name, Path(name)) if (folder / KEPT).is_file()), None)
