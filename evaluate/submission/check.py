"""Check submission files against an official sample: header, rows and their order, columns, values."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from abaw.core.errors import DataError, UsageError
from abaw.core.names import composed, is_junk
from abaw.core.tasks import Task
from abaw.evaluate.submission.findings import Check, Findings, check_mark, check_names
from abaw.evaluate.submission.formats import (
    VideoList,
    check_has_form,
    header_of,
    locate_frames,
    near_header,
    task_of_header,
)
from abaw.evaluate.submission.parsing import SubmittedRows, read_rows, wrong_columns
from abaw.evaluate.submission.row_check import check_row_files
from abaw.evaluate.submission.row_files import NameSample, task_of_rows
from abaw.evaluate.submission.sample_files import AnySample
from abaw.media.text_files import read_lines


def check_submission(path: Path, sample: AnySample, task: Task | None = None) -> Check:
    """Check a submission file, or a folder with one file for each video, against an official sample.

    Args:
        path: the file; for a list of videos the folder.
        task: the predicted task; by default the task of the sample's header, or of the header of the first video's file.

    Raises:
        UsageError: the task is not that of the sample, or unknown.
        DataError: the path is missing, or cannot be read as text.
    """
    if isinstance(sample, NameSample):
        if task not in (None, sample.task):
            raise UsageError(f"{sample.path} is a sample of task {sample.task.name}, not {task.name if task else ''}.")
        return check_row_files(path, sample)
    if isinstance(sample, VideoList):
        return _check_folder(path, sample, task)
    if task not in (None, sample.task):
        raise UsageError(f"{sample.path} is a sample of task {sample.task.name}, not {task.name if task else ''}.")
    findings, rows = Findings(path), read_rows(path, "images")
    _check_header(findings, rows, sample.header)
    _check_values(findings, rows, sample.task)
    check_names(findings, rows.images, sample.images)
    n_videos = len(locate_frames(sample.path, sample.images).videos) if sample.task.level == "frame" else 0
    return Check(len(rows.lines), n_videos, findings.first, findings.counts)


def _check_header(findings: Findings, rows: SubmittedRows, header: str) -> None:
    check_mark(findings, rows.path)
    if rows.header != header:
        findings.add("wrong header", 1, f"the header should be {header!r}, found {rows.header[:80]!r}")


def _check_values(findings: Findings, rows: SubmittedRows, task: Task) -> None:
    columns = wrong_columns(task)
    for number, sentence in rows.mistakes(task):
        if sentence == columns:
            line = rows.lines[number - 2][:60]
            findings.add("row with a wrong number of columns", number, f"{columns}, found {line!r}")
        else:
            findings.add("row with a wrong value", number, sentence)


def _check_folder(folder: Path, sample: VideoList, task: Task | None) -> Check:
    if not folder.is_dir():
        raise DataError(
            f"{sample.path} is a list of videos and needs a folder with one file per video, but {folder} is not a folder."
        )
    in_folder = {path.name: composed(path.name) for path in sorted(folder.iterdir()) if not is_junk(path.name)}
    paths = {video: folder / _file_of(video, in_folder) for video in sample.videos}
    present = {video: path for video, path in paths.items() if path.is_file()}
    task = task or _task_of_files(folder, list(present.values()))
    check_has_form(task, "videos")
    missing = [path.name for video, path in paths.items() if video not in present]
    others = sorted(set(in_folder) - {path.name for path in paths.values()})
    firsts, counts, n_rows = [], {}, 0
    if missing:
        firsts.append(f"{folder / missing[0]} is missing.")
        counts["missing file"] = len(missing)
    for path in present.values():
        findings, rows = Findings(path), read_rows(path, "videos")
        _check_header(findings, rows, header_of(task, "videos"))
        if not rows.lines:
            findings.add("file without rows", 1, "there are no rows after the header")
        _check_values(findings, rows, task)
        n_rows += len(rows.lines)
        firsts += [findings.first] if findings.first else []
        counts |= {kind: counts.get(kind, 0) + n for kind, n in findings.counts.items()}
    if others:
        firsts.append(f"{folder / others[0]} belongs to no video in {sample.path}.")
        counts["file of no video"] = len(others)
    return Check(n_rows, len(present), firsts[0] if firsts else "", counts)


def _file_of(video: str, in_folder: Mapping[str, str]) -> str:
    """Name of a video's file: an exact match, or else one that differs only in its Unicode form, see `composed`."""
    name = f"{video}.txt"
    return (
        name
        if name in in_folder
        else next((other for other, same in in_folder.items() if same == composed(name)), name)
    )


def _task_of_files(folder: Path, paths: Sequence[Path]) -> Task:
    for path in paths[:1]:
        if task := task_of_header(_header(path), "videos"):
            return task
    raise UsageError(f"{folder} has no file with the header of a known task. Choose the task with --task.")


def _header(path: Path) -> str:
    return next(iter(read_lines(path)), "")


def identify(path: Path) -> Task:
    """The task of a submission file, or of a folder of them, by its header.

    Raises:
        DataError: the path is missing, or cannot be read as text.
        UsageError: the header is not that of a known task.
    """
    if path.is_dir():
        return _task_of_files(path, sorted(path.glob("[!.]*.txt")))
    task = task_of_header(_header(path), "images") or task_of_rows(_header(path))
    if task is None:
        near = near_header(_header(path), "images", "videos")
        raise UsageError(f"{path} does not begin with the header of a known task. {near}Choose the task with --task.")
    return task
