"""Sets with action units: DISFA, BP4D and EmotioNet.

DISFA:     ActionUnit_Labels/SN001/SN001_au1.txt   frame,intensity; occurs from intensity 2
           <any>/<a name with SN001>/<frame>.jpg
BP4D:      AUCoding/F001_T1.csv                    first row: numbers of action units; 9 is unknown
           <any>/F001/T1/<frame>.jpg
EmotioNet: <any>.txt or .tsv                       image, values of action units, between tabs; 999 is unknown
           <image> or images/<image>
"""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from abaw.core.errors import some_of
from abaw.core.names import is_junk
from abaw.core.tasks import ACTION_UNITS
from abaw.datasets.stills.still_files import (
    ImageFiles,
    bad_row,
    first_row,
    folder_named,
    folders_in,
    number_in,
    table_rows,
)
from abaw.datasets.stills.still_set import TEST, TRAIN, UNLABELLED, VAL, LeftOut, Still, StillSet, units_from

DISFA, BP4D, EMOTIONET = "DISFA", "BP4D", "EmotioNet"
DISFA_LABELS, BP4D_LABELS = "ActionUnit_Labels", "AUCoding"
SHOWN_UNITS = 8
LEAST_INTENSITY = 2  # of an action unit of DISFA that counts as present
SUBJECT, UNIT_FILE = re.compile(r"SN[0-9]{3}", re.IGNORECASE), re.compile(r".*_au([0-9]+)\.txt", re.IGNORECASE)
TASK_FILE = re.compile(r"([FM][0-9]{3})_(T[0-9]+)\.csv", re.IGNORECASE)
UNIT = re.compile(r"\W*AU\W*([0-9]+)\W*", re.IGNORECASE)
ALL_UNITS = range(1, 61)  # columns of a list of EmotioNet without a header
SPLITS = {"train": TRAIN, "val": VAL, "opt": VAL, "test": TEST}  # by what the name of a list holds


def open_disfa(root: Path) -> StillSet | None:
    """DISFA, if its labels are there; all images are in the split `train`, and folds are of subjects."""
    labels = folder_named(root, DISFA_LABELS)
    subjects = [folder for folder in folders_in(root / labels) if SUBJECT.fullmatch(folder.name)] if labels else []
    if not subjects:
        return None
    files, left_out, stills = ImageFiles(root), LeftOut(), []
    frames, others = _frames_of_subjects(root, files), set()
    for folder in subjects:
        subject = folder.name.upper()
        by_unit = {}
        for path in sorted(folder.iterdir()):
            if (match := UNIT_FILE.fullmatch(path.name)) and not is_junk(path.name):
                by_unit[int(match[1])] = _intensities(path)
        others |= {number for number in by_unit if f"AU{number}" not in ACTION_UNITS}
        for frame in sorted(set().union(*by_unit.values())):
            if frame not in frames.get(subject, {}):
                left_out.add("labelled frames have no image", f"{subject} frame {frame}")
                continue
            values = {unit: int(rows[frame] >= LEAST_INTENSITY) for unit, rows in by_unit.items() if frame in rows}
            stills.append(Still(frames[subject][frame], TRAIN, subject, units=units_from(values)))
    notes = (f"action units are present from intensity {LEAST_INTENSITY}", *_not_of_the_task(others))
    return StillSet(DISFA, root, tuple(stills), tuple(left_out.sentences()), notes)


def _not_of_the_task(numbers: set[int]) -> tuple[str, ...]:
    listed = some_of([f"AU{number}" for number in sorted(numbers)], SHOWN_UNITS)
    return (f"{listed} are not among the action units of the task",) if numbers else ()


def _frames_of_subjects(root: Path, files: ImageFiles) -> dict[str, dict[int, str]]:
    """Images by subject and frame number, of the first folder of each subject that has some."""
    frames: dict[str, dict[int, str]] = {}
    for home in (root, *folders_in(root)):
        for folder in folders_in(home):
            match = SUBJECT.search(folder.name)
            if match and match[0].upper() not in frames:
                images = files.by_number(folder.relative_to(root).as_posix())
                if images:
                    frames[match[0].upper()] = images
    return frames


def _intensities(path: Path) -> dict[int, int]:
    """Intensity of an action unit by frame."""
    by_frame = {}
    for line, row in table_rows(path):
        if len(row) != 2:
            raise bad_row(path, line, f"frame,intensity expected, found {','.join(row)[:60]!r}")
        frame = int(number_in(path, line, "the frame", row[0], range(10_000_000)))
        by_frame[frame] = int(number_in(path, line, "the intensity", row[1], range(6)))
    return by_frame


def open_bp4d(root: Path) -> StillSet | None:
    """BP4D, if its codings are there; all images are in the split `train`, and folds are of subjects."""
    labels = folder_named(root, BP4D_LABELS)
    tables = sorted((root / labels).iterdir()) if labels else []
    matches = [(path, match) for path in tables if (match := TASK_FILE.fullmatch(path.name))]
    if not matches:
        return None
    files, left_out, stills = ImageFiles(root), LeftOut(), []
    homes = [folder.relative_to(root).as_posix() for folder in folders_in(root)]
    others: set[int] = set()
    for path, match in matches:
        subject, task = match[1].upper(), match[2].upper()
        folders = [folder_named(root, subject, task), *(folder_named(root, home, subject, task) for home in homes)]
        frames = next((found for folder in folders if folder and (found := files.by_number(folder))), {})
        for frame, values in _codings(path):
            others |= {number for number in values if f"AU{number}" not in ACTION_UNITS}
            if frame not in frames:
                left_out.add("labelled frames have no image", f"{subject}/{task} frame {frame}")
                continue
            stills.append(Still(frames[frame], TRAIN, subject, units=units_from(values)))
    return StillSet(BP4D, root, tuple(stills), tuple(left_out.sentences()), _not_of_the_task(others))


def _codings(path: Path) -> Iterator[tuple[int, dict[int, int]]]:
    """Frame numbers, with what is known of each action unit by number."""
    units: list[int] = []
    for line, row in table_rows(path):
        if not units:
            units = [int(number_in(path, line, "an action unit", text, range(100))) for text in row[1:]]
            if not units:
                raise bad_row(path, line, "the first row should have the numbers of the action units")
            continue
        if len(row) != len(units) + 1:
            raise bad_row(path, line, f"{len(units) + 1} values expected, found {len(row)}")
        frame = int(number_in(path, line, "the frame", row[0], range(10_000_000)))
        values = [int(number_in(path, line, "a value", text, range(10))) for text in row[1:]]
        yield frame, {unit: value for unit, value in zip(units, values, strict=True) if value in (0, 1)}


def open_emotionet(root: Path) -> StillSet | None:
    """EmotioNet, if a list of it is there. Lists with `val` or `opt` in their names are of validation images."""
    lists = [path for path in sorted(root.iterdir()) if path.suffix.lower() in (".txt", ".tsv") and path.is_file()]
    lists = [path for path in lists if _is_list(path)]
    if not lists:
        return None
    files, left_out, stills, others = ImageFiles(root), LeftOut(), [], set[int]()
    for path in lists:
        split = next((split for part, split in SPLITS.items() if part in path.stem.casefold()), TRAIN)
        for line, name, values in _annotations(path):
            others |= {
                number for number, value in values.items() if value in (0, 1) and f"AU{number}" not in ACTION_UNITS
            }
            units = units_from({unit: value for unit, value in values.items() if value in (0, 1)})
            if all(unit == UNLABELLED for unit in units):
                left_out.add("images have no action unit of the task", name)
                continue
            places = [name, f"images/{name}"] if "://" not in name else []
            places += [f"{folder}{PurePosixPath(name).name}" for folder in ("", "images/")]
            file = next((found for place in places if (found := files.find(place, path, line))), None)
            if file is None:
                left_out.add("images are missing", name)
                continue
            stills.append(Still(file, split, units=units))
    return StillSet(EMOTIONET, root, tuple(stills), tuple(left_out.sentences()), _not_of_the_task(others))


def _is_list(path: Path) -> bool:
    """True if the first row has many values between tabs, which are action units."""
    first = first_row(path, "\t")
    return bool(first) and (any(UNIT.fullmatch(text) for text in first) or len(_flags(first)) == len(ALL_UNITS))


def _flags(row: list[str]) -> list[str]:
    """The values after the name of an image and other texts."""
    begin = next((i for i, text in enumerate(row) if i and text.lstrip("-").isdigit()), len(row))
    return row[begin:]


def _annotations(path: Path) -> Iterator[tuple[int, str, dict[int, int]]]:
    """Line, image, and the values of action units by number."""
    columns: dict[int, int] = {}
    for line, row in table_rows(path, "\t"):
        if not columns:
            matches = {place: UNIT.fullmatch(text) for place, text in enumerate(row)}
            columns = {place: int(match[1]) for place, match in matches.items() if match}
            if columns:
                continue
            columns = {len(row) - len(ALL_UNITS) + i: unit for i, unit in enumerate(ALL_UNITS)}
        if len(row) <= max(columns):
            raise bad_row(path, line, f"{max(columns) + 1} values between tabs expected, found {len(row)}")
        values = {
            unit: int(number_in(path, line, f"AU{unit}", row[place].strip("'\""), range(1_000)))
            for place, unit in columns.items()
        }
        yield line, row[0].strip("'\"").replace("\\", "/"), values
