"""AffectNet (Mollahosseini et al., 2017), in its first release and in the small one.

training.csv  validation.csv                                    or in Manually_Annotated_file_lists/
Manually_Annotated_Images/<n>/<hash>.jpg

train_set/images/<id>.jpg  train_set/annotations/<id>_exp.npy  <id>_val.npy  <id>_aro.npy  <id>_lnd.npy
val_set/...
"""

import os
from pathlib import Path

from abaw.core.errors import DataError
from abaw.datasets.stills.still_files import (
    ImageFiles,
    bad_row,
    file_named,
    folder_named,
    number_in,
    read_numbers,
    table_rows,
)
from abaw.datasets.stills.still_set import (
    CONTEMPT,
    NO_AFFECT,
    TRAIN,
    UNLABELLED,
    VAL,
    LeftOut,
    Still,
    StillSet,
    five_of,
)

KIND, SMALL = "AffectNet", "AffectNet, the small release"
# Neutral, Happy, Sad, Surprise, Fear, Disgust, Anger, Contempt; then None, Uncertain and No-Face
CLASSES = (0, 4, 5, 6, 3, 2, 1, CONTEMPT, UNLABELLED, UNLABELLED, UNLABELLED)
COLUMNS = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal"
FILES = {TRAIN: "training.csv", VAL: "validation.csv"}
LISTS, IMAGES = "Manually_Annotated_file_lists", "Manually_Annotated_Images"
SETS = {TRAIN: "train_set", VAL: "val_set"}
NOT_ANNOTATED = -2  # valence and arousal
N_COORDINATES = 136  # of 68 landmarks
WITHOUT = "images show no expression, an uncertain one or no face"


def open_affectnet(root: Path) -> StillSet | None:
    """The first release, if one of its tables is there with the folder of its images."""
    images = folder_named(root, IMAGES)
    home = root / (folder_named(root, LISTS) or ".")
    tables = {split: file_named(home, name) or file_named(root, name) for split, name in FILES.items()}
    if not images or not any(tables.values()):
        return None
    files, left_out, stills = ImageFiles(root), LeftOut(), []
    for split, path in tables.items():
        for line, row in table_rows(path) if path is not None else ():
            if line == 1 and row[0].casefold() == COLUMNS.split(",")[0].casefold():
                continue
            assert path is not None, "it has rows"
            if (still := _from_row(path, line, row, split, images, files, left_out)) is not None:
                stills.append(still)
    return StillSet(KIND, root, tuple(stills), tuple(left_out.sentences()))


def _from_row(
    path: Path, line: int, row: list[str], split: str, images: str, files: ImageFiles, left_out: LeftOut
) -> Still | None:
    names = COLUMNS.split(",")
    if len(row) != len(names):
        raise bad_row(path, line, f"{len(names)} values expected ({COLUMNS}), found {len(row)}")
    values = dict(zip(names, row, strict=True))
    number = int(number_in(path, line, "expression", values["expression"], range(len(CLASSES))))
    affect = tuple(number_in(path, line, name, values[name], (NOT_ANNOTATED, 1)) for name in ("valence", "arousal"))
    affect = affect if min(affect) >= -1 else NO_AFFECT
    if CLASSES[number] == UNLABELLED and affect == NO_AFFECT:
        left_out.add(WITHOUT, row[0])
        return None
    file = files.find(f"{images}/{row[0]}", path, line)
    if file is None:
        left_out.add("images are missing", row[0])
        return None
    return Still(
        file, split, expression=CLASSES[number], affect=(affect[0], affect[1]), landmarks=_points(path, line, values)
    )


def _points(path: Path, line: int, values: dict[str, str]) -> tuple[float, ...]:
    try:
        points = tuple(float(value) for value in values["facial_landmarks"].split(";") if value.strip())
    except ValueError:
        points = (0.0,)
    if len(points) not in (0, N_COORDINATES):
        found = values["facial_landmarks"][:30]
        raise bad_row(path, line, f"facial_landmarks should be x;y;... of 68 points, found {found!r}")
    return five_of(points) if points else ()


def open_small_affectnet(root: Path) -> StillSet | None:
    """The small release, if a split has its folders of images and annotations."""
    homes = {split: folder_named(root, name) for split, name in SETS.items()}
    homes = {split: home for split, home in homes.items() if home and _inside(root, home, "images", "annotations")}
    if not homes:
        return None
    files, left_out, stills = ImageFiles(root), LeftOut(), []
    for split, home in homes.items():
        annotations = folder_named(root, home, "annotations")
        known = set(os.listdir(root / annotations))  # noqa: PTH208  names suffice
        folder = folder_named(root, home, "images")
        for name in sorted(files.names(folder).values()):
            still = _from_files(root, f"{folder}/{name}", f"{annotations}/{Path(name).stem}", split, known, left_out)
            if still is not None:
                stills.append(still)
    return StillSet(SMALL, root, tuple(stills), tuple(left_out.sentences()))


def _inside(root: Path, home: str, *names: str) -> bool:
    return all(folder_named(root, home, name) for name in names)


def _from_files(root: Path, file: str, stem: str, split: str, known: set[str], left_out: LeftOut) -> Still | None:
    identity = stem.rpartition("/")[2]
    if f"{identity}_exp.npy" not in known:
        left_out.add("images have no annotation", file)
        return None
    number = _value(root / f"{stem}_exp.npy")
    if number not in range(len(CLASSES)):
        raise DataError(f"{root / stem}_exp.npy should hold 0 to {len(CLASSES) - 1}, found {number:g}. Copy it again.")
    affect = NO_AFFECT
    if {f"{identity}_val.npy", f"{identity}_aro.npy"} <= known:
        values = _value(root / f"{stem}_val.npy"), _value(root / f"{stem}_aro.npy")
        affect = values if all(-1 <= value <= 1 for value in values) else NO_AFFECT
    expression = CLASSES[int(number)]
    if expression == UNLABELLED and affect == NO_AFFECT:
        left_out.add(WITHOUT, file)
        return None
    landmarks = f"{stem}_lnd.npy" if f"{identity}_lnd.npy" in known else ""
    return Still(file, split, expression=expression, affect=affect, landmark_file=landmarks)


def _value(path: Path) -> float:
    values = read_numbers(path)
    if len(values) != 1:
        raise DataError(f"{path} should hold one number, found {len(values)}. Copy it again.")
    return float(values[0])
