"""Labels in tables that task files describe, for videos, clips and images wherever they are in the data folder.

train_split.csv                         names and columns as in the task, see `abaw.core.task_files`
Filename,Admiration,Amusement,...       a row for each clip, or for each frame of a video

The tables are in the data folder or one level further down. Videos that have crops in the official layout are read by
that; others are folders of numbered images, or video files, of the same name anywhere below.
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from abaw.core.errors import AbawError, DataError, did_you_mean
from abaw.core.names import MAX_FRAMES, check_last_frame, check_name, composed
from abaw.core.people import is_person
from abaw.core.task_types import LabelTable
from abaw.core.tasks import TASKS, Task
from abaw.datasets.crops import has_stills, list_stills, natural_order
from abaw.datasets.dataset import Dataset
from abaw.datasets.folders import SPLITS, TEST, files_in, split_of, subfolders
from abaw.datasets.frames import Remark, Video
from abaw.datasets.image_folders import Stills
from abaw.datasets.labels import NUMBER, check_values
from abaw.datasets.layouts import Layout
from abaw.datasets.media_search import Media, name_of_video, search_media
from abaw.media.text_files import bounded_lines, check_commas, header_of, open_text

MISSING = ("", "nan", "none")  # cells of a label that is not annotated


@dataclass(frozen=True, eq=False)
class TaskLabels:
    """The rows of one video in a table.

    Attributes:
        numbers: (annotated,) int64 rows from 1, ascending; 1 alone for a whole video.
        values: (annotated, columns) float32.
        person: who is in the video; empty if unknown.
    """

    task: str
    split: str
    video: str
    path: Path
    numbers: NDArray[np.int64]
    values: NDArray[np.float32]
    person: str = ""

    def read(self) -> NDArray:
        """(rows, columns); row i is frame i+1, and frames that are not in the table are invalid."""
        task = TASKS[self.task]
        rows = np.tile(np.array(task.invalid_row, dtype=np.float32), (int(self.numbers[-1]), 1))
        rows[self.numbers - 1] = self.values
        is_small = task.kind != "regression" and -128 <= task.invalid <= 127 and task.invalid == int(task.invalid)
        return rows.astype(np.int8) if is_small else rows


class _Row(NamedTuple):
    line: int
    clip: str
    number: int
    split: str
    person: str
    values: tuple[float, ...]


def open_tables(root: Path, fps: float | None = None) -> Dataset | None:
    """The labels of tables, and their videos; None without a table of a known task."""
    tables = [(task, split, path) for task in TASKS.values() if task.table for split, path in find_tables(root, task)]
    absent = [remark for task in TASKS.values() if TASKS.is_of_file(task.name) for remark in _absent_table(root, task)]
    if not tables:
        return Dataset(root, (), (), fps, tuple(absent)) if absent else None
    labels: list[TaskLabels] = []
    remarks: list[Remark] = []
    stills: dict[str, Video] = {}
    for task, split, path in tables:
        try:
            rows = read_table(path, task, split)
            if task.level == "image":
                for one, video in _of_images(root, path, task, rows):
                    labels.append(one)
                    stills[video.name] = video
            else:
                labels += _by_video(path, task, rows)
        except AbawError as error:
            remarks.append(Remark(path.name, str(error)))
    videos, about = _find_videos(root, labels, [task for task, _, _ in tables], list(stills.values()))
    return Dataset(root, tuple(videos), tuple(labels), fps, (*absent, *remarks, *about))


def _absent_table(root: Path, task: Task) -> Iterator[Remark]:
    """An error if none of the tables that a task file names is there."""
    names = [name for _, name in task.table.files] if task.table else []
    if names and not any(find_tables(root, task)):
        others = [path.name for folder in (root, *subfolders(root)) for path in files_in(folder, [".csv"])]
        near = did_you_mean(names[0].rpartition("/")[2], others)
        what = f"{root} has no {' or '.join(names)}, which task {task.name} names for its labels"
        yield Remark(names[0], f"{what}. {near}Put it there, or name another in the task file.")


def find_tables(root: Path, task: Task) -> Iterator[tuple[str, Path]]:
    """(split, path) of the tables of a task that lie in a folder or one level further down, the first of each name."""
    assert task.table is not None
    for split, name in task.table.files:
        places = (root, *subfolders(root)) if "/" not in name else (root,)
        path = next((place / name for place in places if (place / name).is_file()), None)
        if path is not None and _is_of(path, task):
            yield split, path


def _is_of(path: Path, task: Task) -> bool:
    """True for a table of one's own task, which is an error if it has no such columns, and for one with the columns."""
    if not TASKS.is_own(task.name):
        return True
    return task.table is not None and {task.table.clip, *task.table.targets} <= {*header_of(path)}


def read_table(path: Path, task: Task, split: str = "") -> list[_Row]:
    """Parse and check the rows of a table.

    Args:
        split: of all rows; empty if a column has it.

    Raises:
        DataError: a missing column or an invalid row; names file and line.
    """
    assert task.table is not None
    with open_text(path) as stream:
        lines = csv.reader(bounded_lines(stream, path))
        try:
            header = [cell.strip() for cell in next(lines, [])]
            columns = _columns(path, header, task.table)
            rows = [
                _read_row(path, lines.line_num, cells, columns, task, split)
                for cells in lines
                if any(map(str.strip, cells))
            ]
        except (csv.Error, UnicodeError) as error:
            raise DataError(
                f"{path} line {lines.line_num}: it cannot be read as CSV ({error}). Copy it again."
            ) from error
    if not rows:
        raise DataError(f"{path} has a header but no rows. Copy it again.")
    return rows


def _columns(path: Path, header: Sequence[str], table: LabelTable) -> dict[str, int]:
    """The position of each column that is read, by its name."""
    keys = {table.clip: "clip", table.frame: "frame", table.split: "split", table.person: "person"}
    wanted = [table.clip, *table.targets, *filter(None, (table.frame, table.split, table.person))]
    check_commas(path, header)
    for name in wanted:
        if header.count(name) != 1:
            found = "is listed twice" if name in header else "is missing"
            near = did_you_mean(name, [one for one in header if one])
            raise DataError(
                f"{path} line 1: column {name!r} {found}; the columns are {', '.join(header)[:200]}. {near}Correct the "
                f'table, or name the column in the task file: {keys.get(name, "target")} = "...".'
            )
    return {name: header.index(name) for name in wanted}


def _read_row(path: Path, line: int, cells: Sequence[str], columns: dict[str, int], task: Task, split: str) -> _Row:
    table = task.table
    assert table is not None
    if len(cells) <= max(columns.values()):
        raise DataError(f"{path} line {line}: only {len(cells)} cells: {','.join(cells)[:60]!r}. Correct the line.")
    if not split:
        split = split_of(cells[columns[table.split]])
        if not split:
            word = cells[columns[table.split]][:30]
            near = did_you_mean(word, (*SPLITS, TEST))
            raise DataError(
                f"{path} line {line}: the split should be train, val or test, found {word!r}. {near}Correct it."
            )
    number = 1
    if table.frame:
        text = cells[columns[table.frame]].strip().removesuffix(".0")
        number = int(text) if text.isascii() and text.isdigit() and len(text) < 12 else 0
        if not 1 <= number <= MAX_FRAMES:
            raise DataError(
                f"{path} line {line}: {table.frame} should be a frame number from 1 to {MAX_FRAMES:,}, found "
                f"{cells[columns[table.frame]][:30]!r}. Correct the line."
            )
    texts = [_as_label(cells[columns[name]], task) for name in table.targets]
    values = [value for text in texts if (value := _as_number(text, task)) is not None]
    if len(values) < len(texts):
        shown = [cells[columns[name]] for name in table.targets]
        raise DataError(f"{path} line {line}: {check_values(texts, task, shown)}. Correct the line.")
    person = cells[columns[table.person]].strip() if table.person else ""
    if not is_person(person):
        raise DataError(f"{path} line {line}: {person[:60]!r} cannot be the name of a person. Correct the line.")
    clip = cells[columns[table.clip]].strip()
    return _Row(line, clip, number, split, person, tuple(values))


def _as_number(text: str, task: Task) -> float | None:
    """The label that a text stands for; None for one that `check_values` refuses, which takes longer."""
    if not NUMBER.fullmatch(text):
        return None
    value = float(text)
    is_inside = task.low <= value <= task.high and (task.kind == "regression" or value == int(value))
    return value if is_inside or value == task.invalid else None


def _as_label(cell: str, task: Task) -> str:
    """A cell as the text of a label: numbers of classes from 0, names of classes by their number."""
    text = cell.strip()
    if task.kind == "classes":
        names = {name.casefold(): str(number) for number, name in enumerate(task.outputs)}
        if text.casefold() in names:  # a class may be called none
            return names[text.casefold()]
    if text.lower() in MISSING:
        return repr(task.invalid)
    first = task.first_class
    if NUMBER.fullmatch(text) and first and float(text) != task.invalid:
        return f"{float(text) - first:g}" if float(text) >= first else "below the first class"
    return text


def _by_video(path: Path, task: Task, rows: Sequence[_Row]) -> list[TaskLabels]:
    """The rows of each video, in the order of frames."""
    groups: dict[str, list[_Row]] = {}
    for row in rows:
        groups.setdefault(check_name(name_of_video(row.clip), "video"), []).append(row)
    return [_labels(path, task, name, sorted(group, key=lambda row: row.number)) for name, group in groups.items()]


def _labels(path: Path, task: Task, name: str, rows: Sequence[_Row]) -> TaskLabels:
    for row, other in pairwise(rows):
        if row.number == other.number:
            what = name if task.level == "video" else f"row {row.number} of {name}"
            raise DataError(f"{path} lines {row.line} and {other.line} both label {what}. Delete one of them.")
        if (row.split, row.person) != (other.split, other.person):
            raise DataError(
                f"{path} lines {row.line} and {other.line} put {name} into two splits, or name two people. Correct one."
            )
    if task.level == "frame":  # images are counted in their folder
        check_last_frame(rows[-1].number, len(rows), f"{path} line {rows[-1].line}: {name}")
    numbers = np.array([row.number for row in rows], dtype=np.int64)
    values = np.array([row.values for row in rows], dtype=np.float32)
    return TaskLabels(task.name, rows[0].split, name, path, numbers, values, rows[0].person)


def _of_images(root: Path, path: Path, task: Task, rows: Sequence[_Row]) -> list[tuple[TaskLabels, Stills]]:
    """Labels of images, whose paths are relative to the data folder: the images of a folder are one video."""
    folders: dict[str, list[_Row]] = {}
    for row in rows:
        parts = row.clip.replace("\\", "/").split("/")
        if ".." in parts or row.clip.startswith(("/", "\\")) or len(parts) < 2:
            raise DataError(
                f"{path} line {row.line}: an image is written folder/name.jpg, relative to the data folder, found "
                f"{row.clip[:60]!r}. Correct the line."
            )
        folders.setdefault("/".join(parts[:-1]), []).append(row)
    labels: list[tuple[TaskLabels, Stills]] = []
    for folder, group in folders.items():
        if not (root / folder).is_dir():
            raise DataError(f"{path} line {group[0].line}: there is no folder {root / folder}. Correct the line.")
        labels += _of_folder(root, folder, path, task, group)
    return labels


def _of_folder(
    root: Path, folder: str, path: Path, task: Task, rows: Sequence[_Row]
) -> Iterator[tuple[TaskLabels, Stills]]:
    """The images of a folder: one video, or one for each split and person where the table names several."""
    names = list_stills(root / folder).names
    found = {composed(name): name for name in names}
    groups: dict[tuple[str, str], list[tuple[str, _Row]]] = {}
    for row in rows:
        image = found.get(composed(row.clip.replace("\\", "/").rpartition("/")[2]))
        if image is None:
            near = did_you_mean(row.clip.rpartition("/")[2], names)
            raise DataError(
                f"{path} line {row.line}: there is no image {root / row.clip}. {near}Correct the line, or delete it."
            )
        groups.setdefault((row.split, row.person), []).append((image, row))
    for (split, person), group in groups.items():
        chosen = () if len(groups) == 1 else tuple(sorted({image for image, _ in group}, key=natural_order))
        number_of = {image: number for number, image in enumerate(chosen or names, start=1)}
        numbered = [row._replace(number=number_of[image]) for image, row in group]
        suffix = "".join(f"-{part}" for part in (split, person) if part) if chosen else ""
        name = check_name(composed((folder + suffix).replace("/", "-").replace("\\", "-")), "folder of images")
        labels = _labels(path, task, name, sorted(numbered, key=lambda row: row.number))
        yield labels, Stills(name, root / folder, images=chosen)


def _find_videos(
    root: Path, labels: Sequence[TaskLabels], tasks: Sequence[Task], stills: list[Video]
) -> tuple[list[Video], list[Remark]]:
    """The videos of labels that no other layout reads, and with them those without labels, which are to be predicted."""
    if any(task.level == "image" for task in tasks) and (root / TEST).is_dir() and has_stills(root / TEST):
        stills = [*stills, *(Stills(TEST, root / TEST) for _ in range(all(one.name != TEST for one in stills)))]
    if all(task.level == "image" for task in tasks):
        return stills, []
    media = search_media(root)
    of_images = {video.name for video in stills}
    names = {label.video: None for label in labels if label.video not in of_images}
    everything = {*media.files, *media.folders}
    if any(task.level == "video" for task in tasks) or everything & {*names}:
        names |= dict.fromkeys(sorted(everything))
    return [*stills, *media.videos(names)], _remarks(media, names)


def _remarks(media: Media, names: dict[str, None]) -> list[Remark]:
    """An error for each video that is there twice."""
    return [
        Remark(second.name, f"{second} is not used: {first} has the same name. Rename or delete one of the two.")
        for name, (first, second) in media.twice.items()
        if name in names
    ]


LAYOUT = Layout(open_tables, "tables that a task file names (--task FILE.toml), with clips or crops of the same names")
