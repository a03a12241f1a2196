"""RAF-DB's basic expressions (Li et al., 2017).

EmoLabel/list_patition_label.txt        train_00001.jpg 5      (spelt so)
Image/aligned/train_00001_aligned.jpg   Image/original/train_00001.jpg
"""

from pathlib import Path

from abaw.datasets.stills.still_files import ImageFiles, bad_row, file_named, folder_named, number_in, table_rows
from abaw.datasets.stills.still_set import TRAIN, VAL, LeftOut, Still, StillSet

KIND = "RAF-DB"
FOLDER, FILE, CORRECTED = "EmoLabel", "list_patition_label.txt", "list_partition_label.txt"
CLASSES = (6, 3, 2, 4, 5, 1, 0)  # Surprise, Fear, Disgust, Happiness, Sadness, Anger, Neutral, from 1
PREFIXES = {"train_": TRAIN, "test_": VAL}


def open_rafdb(root: Path) -> StillSet | None:
    """The set, if its list is there with a folder of its images; its test images are the validation."""
    labels = folder_named(root, FOLDER)
    path = file_named(root / labels, FILE, CORRECTED) if labels else None
    aligned, original = folder_named(root, "Image", "aligned"), folder_named(root, "Image", "original")
    if path is None or not (aligned or original):
        return None
    files, left_out, stills = ImageFiles(root), LeftOut(), []
    for line, words in table_rows(path, " "):
        row = [word for word in words if word]
        if len(row) != 2:
            raise bad_row(path, line, f"the name of an image and a class expected, found {' '.join(row)[:60]!r}")
        split = next((split for prefix, split in PREFIXES.items() if row[0].startswith(prefix)), None)
        if split is None:
            raise bad_row(path, line, f"names of images begin with train_ or test_, found {row[0][:60]!r}")
        number = int(number_in(path, line, "the class", row[1], range(1, len(CLASSES) + 1)))
        stem, _, suffix = row[0].rpartition(".")
        crop = files.find(f"{aligned}/{stem}_aligned.{suffix}", path, line) if aligned else None
        file = files.find(f"{original}/{row[0]}", path, line) if original else None
        if crop is None and file is None:
            left_out.add("images are missing", row[0])
            continue
        stills.append(Still(file or crop or "", split, expression=CLASSES[number - 1], crop=crop or ""))
    notes = ("its test images are the validation split",)
    return StillSet(KIND, root, tuple(stills), tuple(left_out.sentences()), notes)
