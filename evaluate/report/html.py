"""A report of one run, or of several side by side, as one HTML file that opens from disk and needs no network."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from abaw.core.claim_files import claimed
from abaw.core.errors import UsageError
from abaw.core.files import writing
from abaw.core.tasks import Task
from abaw.evaluate.report.content import Reported
from abaw.evaluate.report.face_crops import Faces
from abaw.evaluate.report.page import render


def write_report(
    path: Path,
    task: Task,
    runs: Sequence[Reported],
    split: str,
    faces: Faces | None = None,
    about: Mapping[str, str] | None = None,
) -> None:
    """Write a report.

    Args:
        path: of the HTML file; it is replaced atomically, and missing folders above it are created.
        runs: of one task; the others are compared with the first.
        faces: pictures of the data folder, if that is available.
        about: what its head says besides the date and the version, such as the command.

    Raises:
        UsageError: the path is a folder.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a folder. Name the file to write, such as --out {path / 'report.html'}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with claimed(path), writing(path) as partial:
        # names of videos may have lone surrogates, which have no encoding
        partial.write_text(render(task, runs, split, faces, about), encoding="utf-8", errors="replace")
