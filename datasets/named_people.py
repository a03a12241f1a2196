"""Who is in the videos of a dataset, by a table of the user's or by folders.

people.csv                   in the data folder, or another file that is named
video,person
interview-1,anna             the name of a video, or of its file; all its rows in label files count as anna's
"""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import replace
from os.path import commonpath
from pathlib import Path

from abaw.core.errors import DataError, did_you_mean, some_of
from abaw.core.people import is_person, without_side
from abaw.datasets.dataset import Dataset
from abaw.datasets.folders import split_of
from abaw.datasets.frames import Remark
from abaw.datasets.media_search import name_of_video
from abaw.media.text_files import bounded_lines, header_of, open_text

TABLE, FOLDERS = "people.csv", "folders"
COLUMNS = VIDEO, PERSON = "video", "person"
SHOWN_NAMES = 3


def with_people(dataset: Dataset, people: str = "") -> Dataset:
    """A dataset that knows who is in its videos.

    Args:
        people: a table; or `folders`, for a folder of each person; by default `people.csv` in the data folder, if it
            is there and has these columns.

    Raises:
        DataError: the table is missing, broken, or about other videos; or there are no such folders.
    """
    if people == FOLDERS:
        return replace(dataset, persons=_by_folder(dataset))
    path = Path(people).expanduser() if people else dataset.root / TABLE
    if people and not path.exists():
        others = sorted(other.name for other in path.parent.glob("*.csv")) if path.parent.is_dir() else []
        near = did_you_mean(path.name, [FOLDERS, *others])
        raise DataError(f"There is no table of people {path}. {near}Name one, or say {FOLDERS}.")
    if not people and not path.is_file():
        return dataset
    if not people and not set(COLUMNS) <= set(header_of(path)):
        why = f"names no people, as it does not begin with the line {','.join(COLUMNS)}"
        lacks = Remark(path.name, why, is_error=False, is_of_people=True)
        return dataset if lacks in dataset.remarks else replace(dataset, remarks=(*dataset.remarks, lacks))
    persons = read_people(path)
    names = {video.name for video in dataset.videos} | {label.video for label in dataset.labels}
    names |= {without_side(name) for name in names}
    unknown = [name for name in persons if name not in names]
    if len(unknown) == len(persons):
        near = did_you_mean(unknown[0], sorted(names))
        raise DataError(
            f"{path} names no video of {dataset.root}, but {some_of(unknown, SHOWN_NAMES)}. {near}Name videos as `abaw doctor` does."
        )
    are_unknown = "1 name is" if len(unknown) == 1 else f"{len(unknown)} names are"
    remark = f"{are_unknown} of no video: {some_of(unknown, SHOWN_NAMES)}"
    remarks = (Remark(path.name, remark, is_error=False, is_of_people=True),) if unknown else ()
    return replace(dataset, persons=persons, remarks=(*dataset.remarks, *remarks))


def people_notes(dataset: Dataset) -> list[str]:
    """Sentences on the table of people, for those who do not see all remarks."""
    return [f"{remark.about}: {remark.sentence}." for remark in dataset.remarks if remark.is_of_people]


def read_people(path: Path) -> dict[str, str]:
    """Who is in each video, by the table `video,person`.

    Raises:
        DataError: it is missing, lacks a column, or has an invalid line; names file and line.
    """
    persons: dict[str, str] = {}
    with open_text(path) as stream:
        lines = csv.reader(bounded_lines(stream, path))
        try:
            header = [cell.strip() for cell in next(lines, [])]
            columns = [_column(path, header, name) for name in COLUMNS]
            for cells in lines:
                if any(map(str.strip, cells)):
                    video, person = _read_line(path, lines.line_num, cells, columns)
                    if persons.setdefault(video, person) != person:
                        raise DataError(
                            f"{path} line {lines.line_num}: {video} is {persons[video]} in an earlier line. Delete one."
                        )
        except (csv.Error, UnicodeError) as error:
            raise DataError(
                f"{path} line {lines.line_num}: it cannot be read as CSV ({error}). Copy it again."
            ) from error
    if not persons:
        raise DataError(f"{path} has a header but no rows. Add a row for each video.")
    return persons


def _column(path: Path, header: Sequence[str], name: str) -> int:
    if header.count(name) != 1:
        near = did_you_mean(name, [one for one in header if one])
        raise DataError(
            f"{path} line 1: one column should be {name!r}; the columns are {', '.join(header)[:200]}. {near}Begin the "
            f"file with the line {','.join(COLUMNS)}."
        )
    return header.index(name)


def _read_line(path: Path, line: int, cells: Sequence[str], columns: Sequence[int]) -> tuple[str, str]:
    """Name of the video, and the person."""
    video, person = (cells[column].strip() if column < len(cells) else "" for column in columns)
    if not video or not person or not is_person(person):
        raise DataError(
            f"{path} line {line}: expected a video and a person, found {','.join(cells)[:60]!r}. Correct it."
        )
    return name_of_video(video), person


def _by_folder(dataset: Dataset) -> dict[str, str]:
    """The first folder of each video that tells videos apart; folders named like a split do not count."""
    folders = {video.name: (video.file or video.path).absolute().parent for video in dataset.videos}
    top = commonpath(folders.values()) if folders else str(dataset.root)
    below = {name: _without_splits(folder.relative_to(top).parts) for name, folder in folders.items()}
    alone = [name for name, parts in below.items() if not parts]
    if alone:
        raise DataError(
            f"--people {FOLDERS} needs a folder for each person, and {some_of(alone, SHOWN_NAMES)} of {dataset.root} is in "
            f"none. Name the people in a table {','.join(COLUMNS)} with --people FILE.csv."
        )
    return {name: parts[0] for name, parts in below.items()}


def _without_splits(parts: Iterable[str]) -> list[str]:
    return [part for part in parts if not split_of(part)]
