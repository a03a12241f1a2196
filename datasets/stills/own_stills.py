"""Sets of one's own: a folder for each class, and tables of images.

train/<class>/*.jpg  val/<class>/*.jpg   or <class>/*.jpg
<any>.csv                                image, and any of label, valence, arousal, AU1 ... AU26, split, subject
"""

import re
from dataclasses import dataclass
from pathlib import Path

from abaw.core.errors import DataError
from abaw.core.tasks import EXPRESSIONS
from abaw.datasets.folders import SPLITS as SPLIT_NAMES
from abaw.datasets.folders import folded
from abaw.datasets.stills.still_files import ImageFiles, bad_row, first_row, folders_in, number_in, table_rows
from abaw.datasets.stills.still_set import (
    CONTEMPT,
    NO_AFFECT,
    TEST,
    TRAIN,
    UNLABELLED,
    LeftOut,
    Still,
    StillSet,
    units_from,
)

FOLDERS, TABLE = "folders by class", "a table of images"
NAMES = {
    **{name.lower(): number for number, name in enumerate(EXPRESSIONS)},
    **{
        "angry": 1,
        "disgusted": 2,
        "fearful": 3,
        "afraid": 3,
        "happy": 4,
        "sad": 5,
        "surprised": 6,
        "contempt": CONTEMPT,
    },
}
LEAST_CLASSES = 2
IMAGE, LABELS = "image", ("label", "expression")
AFFECT = ("valence", "arousal")
UNIT = re.compile(r"AU0?([0-9]+)", re.IGNORECASE)
NO_LABEL = ("", "nan", "none")


def split_named(name: str) -> str:
    """The split that a folder or a value is called after; empty for other names."""
    known = next((split for split, names in SPLIT_NAMES.items() if names.fullmatch(folded(name))), "")
    return known or (TEST if folded(name) == TEST else "")


def open_class_folders(root: Path) -> StillSet | None:
    """Folders of classes, if there are two with known names, in folders of splits or without."""
    splits = {folder: split_named(folder.name) for folder in folders_in(root)}
    homes = {folder: split for folder, split in splits.items() if split} or {root: TRAIN}
    files, left_out, stills, classes = ImageFiles(root), LeftOut(), [], set()
    for home, split in homes.items():
        for folder in folders_in(home):
            number = NAMES.get(folder.name.casefold())
            if number is None:
                left_out.add("folders are not called after a class", folder.relative_to(root).as_posix())
                continue
            classes.add(number)
            inner = folder.relative_to(root).as_posix()
            stills += [
                Still(f"{inner}/{name}", split, expression=number) for name in sorted(files.names(inner).values())
            ]
    if len(classes) < LEAST_CLASSES:
        return None
    return StillSet(FOLDERS, root, tuple(stills), tuple(left_out.sentences()))


@dataclass(frozen=True)
class _Columns:
    """Where the columns of a table are; -1 for those that it lacks."""

    label: int
    affect: tuple[int, ...]
    units: dict[int, int]
    split: int
    subject: int

    @classmethod
    def read(cls, path: Path, header: list[str]) -> "_Columns":
        names = [name.casefold() for name in header]
        if repeated := [name for name in names if names.count(name) > 1]:
            raise DataError(f"{path} has two columns {repeated[0]}. Rename one of them.")
        place = {name: number for number, name in enumerate(names)}
        affect = tuple(place[name] for name in AFFECT if name in place)
        if len(affect) == 1:
            raise DataError(f"{path} has one of the columns valence and arousal. Add the other one.")
        units = {number: int(match[1]) for name, number in place.items() if (match := UNIT.fullmatch(name))}
        label = next((place[name] for name in LABELS if name in place), -1)
        if label < 0 and not affect and not units:
            raise DataError(
                f"{path} has no column of labels, found {','.join(header)[:60]}. Name them label, valence and arousal, or "
                "AU1, AU2 and so on."
            )
        return cls(label, affect, units, place.get("split", -1), place.get("subject", -1))


def open_image_tables(root: Path) -> StillSet | None:
    """All tables whose first column is `image`; the split is a column, or the name of the table, or `train`."""
    tables = [path for path in sorted(root.iterdir()) if path.suffix.lower() == ".csv" and path.is_file()]
    tables = [path for path in tables if _is_table(path)]
    if not tables:
        return None
    files, left_out, stills = ImageFiles(root), LeftOut(), []
    for path in tables:
        rows = table_rows(path)
        header = next(rows)[1]
        columns = _Columns.read(path, header)
        for line, row in rows:
            if len(row) != len(header):
                raise bad_row(path, line, f"{len(header)} values expected ({','.join(header)[:60]}), found {len(row)}")
            file = files.find(row[0], path, line)
            still = _still(path, line, row, columns, file or row[0])
            if file is None:
                left_out.add("images are missing", row[0])
            elif still is None:
                left_out.add("images have no label", row[0])
            else:
                stills.append(still)
    return StillSet(TABLE, root, tuple(stills), tuple(left_out.sentences()))


def _is_table(path: Path) -> bool:
    first = first_row(path)
    return len(first) > 1 and first[0].casefold() == IMAGE


def _still(path: Path, line: int, row: list[str], columns: _Columns, file: str) -> Still | None:
    """The image of a row; None without a label."""
    expression = _class_in(path, line, row[columns.label]) if columns.label >= 0 else UNLABELLED
    affect = NO_AFFECT
    if columns.affect and all(row[place].casefold() not in NO_LABEL for place in columns.affect):
        texts = zip(AFFECT, columns.affect, strict=True)
        valence, arousal = (number_in(path, line, name, row[place], (-5, 1)) for name, place in texts)
        affect = (valence, arousal) if min(valence, arousal) >= -1 else NO_AFFECT
    known = {unit: row[place] for place, unit in columns.units.items() if row[place].casefold() not in NO_LABEL}
    values = {unit: int(number_in(path, line, f"AU{unit}", text, range(-1, 1_000))) for unit, text in known.items()}
    units = units_from({unit: value for unit, value in values.items() if value in (0, 1)})
    if expression == UNLABELLED and affect == NO_AFFECT and all(unit == UNLABELLED for unit in units):
        return None
    split = split_named(path.stem) or TRAIN
    if columns.split >= 0:
        split = split_named(row[columns.split])
        if not split:
            raise bad_row(path, line, f"split should be train, val or test, found {row[columns.split][:30]!r}")
    subject = row[columns.subject] if columns.subject >= 0 else ""
    return Still(file, split, subject, expression, affect, units if columns.units else ())


def _class_in(path: Path, line: int, text: str) -> int:
    """The class that a name or an index in `EXPRESSIONS` stands for."""
    if text.casefold() in NO_LABEL or text == "-1":
        return UNLABELLED
    if text.casefold() in NAMES:
        return NAMES[text.casefold()]
    if text.isdigit() and int(text) < len(EXPRESSIONS):
        return int(text)
    listed = ", ".join(f"{number} {name}" for number, name in enumerate(EXPRESSIONS))
    raise bad_row(path, line, f"the label should be one of {listed}, found {text[:30]!r}")
