"""Reading what to predict: official samples with a row for each image, and lists of clips and videos."""

from collections.abc import Sequence
from pathlib import Path

from abaw.core.errors import DataError
from abaw.core.names import composed, has_unsafe_characters
from abaw.core.tasks import Task
from abaw.evaluate.submission.formats import (
    Sample,
    VideoList,
    headers_of,
    is_title,
    locate_frames,
    near_header,
    task_of_header,
)
from abaw.evaluate.submission.row_files import NameSample, read_names, task_of_rows
from abaw.media.text_files import read_lines

AnySample = Sample | VideoList | NameSample


def read_sample(path: Path, known: Task | None = None) -> AnySample:
    """Read an official sample: rows that end in a comma or hold dummy values, or a list of videos or clips.

    Args:
        known: what to predict; by default what the header says.

    Raises:
        DataError: the header is unknown, an image is not `<video>/<frame number>.jpg`, or a list has a video twice; names
            file and line.
    """
    if known is not None and known.submission.rows is not None:
        return read_names(path, known)
    first, *lines = read_lines(path, is_named=True) or [""]
    header = first.strip()
    task = known if known is not None and is_title(header, known, "images") else task_of_header(header, "images")
    if task is None and (of_rows := task_of_rows(header)) is not None:
        return read_names(path, of_rows)
    if task is None and not any("," in line for line in (header, *lines)):
        return VideoList(path, _names(path, [header, *lines]))
    if task is None:
        headers = "; ".join(f"{title} {line}" for title, line in headers_of("images").items())
        near = near_header(header, "images") or f"Known headers: {headers}. "
        raise DataError(
            f"{path} line 1: {header[:60]!r} is not the header of a known challenge. {near}If it lists clips or is of a task "
            "of your own, name the task with --task."
        )
    images = [line.partition(",")[0].strip() for line in lines]
    if not images:
        raise DataError(f"{path} has a header but no rows. Download the sample file again.")
    if task.level == "frame":
        locate_frames(path, images)
    return Sample(path, task, header, images)


def _names(path: Path, lines: Sequence[str]) -> tuple[str, ...]:
    numbered = {number: line.strip() for number, line in enumerate(lines, start=1) if line.strip()}
    if not numbered:
        raise DataError(f"{path} is empty. Pass the official sample file with --sample.")
    line_of: dict[str, int] = {}
    for number, name in numbered.items():
        if "/" in name or "\\" in name or name.startswith(".") or has_unsafe_characters(name):
            raise DataError(
                f"{path} line {number}: {name[:60]!r} is not a valid video name. Pass the official sample file."
            )
        first = line_of.setdefault(composed(name), number)
        if first != number:
            raise DataError(f"{path} line {number}: {name} is already on line {first}. Delete one of the two.")
    return tuple(numbered.values())
