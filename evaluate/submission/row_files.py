"""Submission files made of cells: a file with a row for each clip, or a file for each video, perhaps in a zip archive.

Videos/1/Visite_1/1_Question_2_Video.mp4,0.25,0.75,1     ah: the path, both probabilities, 0 or 1; or path and 0 or 1
00014,0.1,0.0,0.3,0.0,0.5,0.2                            emi: after the header, the clip and six intensities
sample_00000123,happy                                    mer: after the header, the clip and the name of the class
0001.csv in predictions.zip: 17,1                        vd: after the header, the frame, from 1, and the class
clip_7.txt: 0.66                                         engagement: the number alone

`abaw.core.task_types.RowFiles` says which cells a task has.
"""

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from numpy.typing import NDArray

from abaw.core.errors import DataError
from abaw.core.names import composed, has_unsafe_characters, is_junk
from abaw.core.task_types import RowFiles
from abaw.core.tasks import TASKS, Task
from abaw.datasets.media_search import name_of_video
from abaw.evaluate.submission.row_cells import form_of, format_rows, is_header
from abaw.media.text_files import read_lines, without_blank_end

TITLES = ("path", "video", "video_path", "file", "filename", "id", "name", "clip", "clip_id", "video_id")
MAX_FILE_BYTES, MAX_FILES = 2**26, 100_000  # in an archive


@dataclass(frozen=True)
class NameSample:
    """The clips or videos to predict.

    Attributes:
        path: the file that lists them.
        task: what to predict.
        names: as written, in the order of the rows to hand in.
    """

    path: Path
    task: Task
    names: tuple[str, ...]

    @property
    def videos(self) -> tuple[str, ...]:
        """Names of the videos in a store."""
        return tuple(map(name_of_video, self.names))

    @property
    def form(self) -> RowFiles:
        """The form of the files."""
        return form_of(self.task)


def read_names(path: Path, task: Task) -> NameSample:
    """Read a file whose lines begin with the names of clips or videos: a list, labels of a split, or an earlier submission.

    Raises:
        DataError: it is empty, a name is invalid, or two lines name the same clip; names the line.
    """
    form, lines = form_of(task), read_lines(path, is_named=True)
    first = lines[0].partition(",")[0].strip() if lines else ""
    titles = {*TITLES, *([form.header.partition(",")[0].strip().casefold()] if form.form == "clips" else [])}
    n_titles = int(bool(lines) and (is_header(lines[0], form) or first.casefold() in titles - {""}))
    line_of: dict[str, int] = {}
    names = []
    for number, line in enumerate(lines[n_titles:], start=1 + n_titles):
        name = line.partition(",")[0].strip()
        video = name_of_video(name)
        if not video or video.startswith(".") or has_unsafe_characters(name) or len(name) > 1000:
            raise DataError(f"{path} line {number}: {line[:60]!r} does not begin with the name of a clip. Correct it.")
        if line_of.setdefault(video, number) != number:
            raise DataError(
                f"{path} line {number}: {video} is already on line {line_of[video]}. Delete one of the two."
            )
        names.append(name)
    if not names:
        raise DataError(f"{path} lists no clips. Pass the official sample or the list of clips with --sample.")
    return NameSample(path, task, tuple(sorted(names) if form.order == "name" else names))


def task_of_rows(line: str) -> Task | None:
    """The task whose files of cells have this header."""
    tasks = [task for task in TASKS.values() if task.submission.rows is not None]
    return next((task for task in tasks if form_of(task).header and is_header(line, form_of(task))), None)


def write_row_files(
    path: Path, sample: NameSample, answers: Mapping[str, NDArray], outputs: Mapping[str, NDArray]
) -> None:
    """Write a file with a row for each clip, or a folder or zip archive with a file for each video.

    Args:
        answers, outputs: by video, see `format_rows`.
    """
    task, form = sample.task, sample.form
    titles = [form.header] if form.header else []
    rows = {name: list(format_rows(task, name, answers[video], outputs[video])) for name, video in _pairs(sample)}
    path.parent.mkdir(parents=True, exist_ok=True)
    if form.form == "clips":
        path.write_text(_as_text([*titles, *(row for each in rows.values() for row in each)]), "utf-8", newline="\n")
        return
    texts = {f"{name_of_video(name)}{form.suffix}": _as_text([*titles, *each]) for name, each in rows.items()}
    if form.is_zipped:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in texts.items():
                archive.writestr(
                    zipfile.ZipInfo(name), text, zipfile.ZIP_DEFLATED
                )  # no times: equal content, equal bytes
        return
    path.mkdir()
    for name, text in texts.items():
        (path / name).write_text(text, "utf-8", newline="\n")


def _pairs(sample: NameSample) -> Iterator[tuple[str, str]]:
    """Each name as written, with that of its video in a store."""
    return zip(sample.names, map(composed, sample.videos), strict=True)


def _as_text(lines: Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def read_row_files(path: Path, task: Task) -> dict[str, list[str]]:
    """The lines of a file of clips, under an empty name, or of each file of a folder or archive, by file name.

    Raises:
        DataError: it is missing, not a folder or an archive, or too large.
    """
    form = form_of(task)
    if form.form == "clips":
        return {"": read_lines(path)}
    if form.is_zipped and not path.is_dir():
        return _read_archive(path)
    if not path.is_dir():
        raise DataError(f"{path} should be a folder with a file {'<video>' + form.suffix} for each video. Pass that.")
    return {
        entry.name: read_lines(entry) for entry in sorted(path.iterdir()) if not is_junk(entry.name) and entry.is_file()
    }


def _read_archive(path: Path) -> dict[str, list[str]]:
    """The lines of the files in a zip archive by the names there; nothing is unpacked."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [one for one in archive.infolist() if not one.is_dir() and not is_junk(one.filename)]
            if len(members) > MAX_FILES or any(one.file_size > MAX_FILE_BYTES for one in members):
                raise DataError(f"{path} has too many or too large files. Write it again with `abaw submit`.")
            texts = {one.filename: archive.read(one).decode() for one in members}
    except (OSError, zipfile.BadZipFile, UnicodeError, NotImplementedError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path} cannot be read as a zip archive of text files ({reason}). Write it again.") from error
    lines = {name: without_blank_end(text.replace("\r\n", "\n")) for name, text in texts.items()}
    return {name: text.split("\n") if text else [] for name, text in lines.items()}


def video_of_file(name: str, form: RowFiles) -> str:
    """The video that a file is of; empty for a name with another suffix, or in a folder."""
    is_plain = name.endswith(form.suffix) and "/" not in name and "\\" not in name
    return composed(name.removesuffix(form.suffix)) if is_plain else ""
