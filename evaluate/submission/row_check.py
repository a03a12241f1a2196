"""Check submission files made of cells against the list of clips or videos to predict."""

from collections.abc import Sequence
from pathlib import Path

from abaw.core.names import composed
from abaw.core.task_types import FRAME
from abaw.core.tasks import Task
from abaw.datasets.media_search import name_of_video
from abaw.evaluate.submission.findings import Check, Findings, check_mark, check_names
from abaw.evaluate.submission.row_cells import is_header, parse_row
from abaw.evaluate.submission.row_files import NameSample, read_row_files, video_of_file


def check_row_files(path: Path, sample: NameSample) -> Check:
    """Check a file with a row for each clip, or a folder or archive with a file for each video.

    Raises:
        DataError: the path is missing, or cannot be read.
    """
    files = read_row_files(path, sample.task)
    if sample.form.form == "clips":
        return _check_clips(path, sample, files[""])
    return _check_videos(path, sample, files)


def _check_clips(path: Path, sample: NameSample, lines: Sequence[str]) -> Check:
    findings = Findings(path)
    check_mark(findings, path)
    n_titles = _check_first_line(findings, lines, sample.task)
    names = []
    for number, line in enumerate(lines[n_titles:], start=1 + n_titles):
        row = parse_row(sample.task, line)
        names.append(line.partition(",")[0])
        if isinstance(row, str):
            findings.add("row with wrong cells", number, f"{row}: {line[:60]!r}")
    check_names(findings, names, sample.names, 1 + n_titles)
    return Check(len(lines) - n_titles, len(names), findings.first, findings.counts)


def _check_first_line(findings: Findings, lines: Sequence[str], task: Task) -> int:
    """The number of lines before the rows: 1 for a header."""
    form = task.submission.rows
    assert form is not None
    if not form.header:
        return 0
    if not lines or lines[0] != form.header:
        found = lines[0][:80] if lines else ""
        findings.add("wrong header", 1, f"the header should be {form.header!r}, found {found!r}")
        return int(bool(lines) and is_header(lines[0], form))
    return 1


def _check_videos(path: Path, sample: NameSample, files: dict[str, list[str]]) -> Check:
    form = sample.form
    by_video = {video: name for name in files if (video := video_of_file(name, form))}
    wanted = [composed(name_of_video(name)) for name in sample.names]
    firsts, counts, n_rows = [], dict[str, int](), 0
    if missing := [video for video in wanted if video not in by_video]:
        firsts.append(f"{path / (missing[0] + form.suffix)} is missing.")
        counts["missing file"] = len(missing)
    for video in (video for video in wanted if video in by_video):
        findings, lines = Findings(path / by_video[video]), files[by_video[video]]
        if path.is_dir():
            check_mark(findings, findings.path)
        n_rows += _check_rows(findings, lines, sample.task)
        firsts += [findings.first] if findings.first else []
        counts |= {kind: counts.get(kind, 0) + n for kind, n in findings.counts.items()}
    if others := sorted(set(files) - {by_video[video] for video in wanted if video in by_video}):
        firsts.append(f"{path / others[0]} belongs to no video in {sample.path}.")
        counts["file of no video"] = len(others)
    return Check(n_rows, len(wanted) - len(missing), firsts[0] if firsts else "", counts)


def _check_rows(findings: Findings, lines: Sequence[str], task: Task) -> int:
    """Check the rows of one video, whose frames are 1, 2, 3 and so on; returns their number."""
    n_titles = _check_first_line(findings, lines, task)
    rows, form = lines[n_titles:], task.submission.rows
    assert form is not None
    if not rows:
        findings.add("file without rows", 1, "there are no rows")
    for number, line in enumerate(rows, start=1 + n_titles):
        row = parse_row(task, line)
        if isinstance(row, str):
            findings.add("row with wrong cells", number, f"{row}: {line[:60]!r}")
        elif FRAME in form.columns[0] and row.frame != number - n_titles:
            findings.add("row out of order", number, f"frame {number - n_titles} should be here, found {row.frame}")
    if task.level == "video" and len(rows) > 1:
        findings.add("file with several rows", 2 + n_titles, f"one row is expected, found {len(rows)}")
    return len(rows)
