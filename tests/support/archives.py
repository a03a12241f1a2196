"""The tiny demo as the archives of Aff-Wild2 unpack, with what other programs leave between them."""

import shutil
from pathlib import Path

CHALLENGES = {"va": "VA_Estimation_Challenge", "expr": "EXPR_Recognition_Challenge", "au": "AU_Detection_Challenge"}


def unpack_archives(demo: Path, root: Path) -> None:
    """Copy the data folder of a demo to `root` in the layout of the archives."""
    crops = sorted((demo / "cropped_aligned").iterdir())
    for number, folder in enumerate(crops):
        place = ("cropped_aligned", "cropped_aligned_new_50_vids")[number % 2]
        shutil.copytree(folder, root / place / folder.name)
        (root / place / folder.name / ".DS_Store").write_bytes(b"\0")
    for number, file in enumerate(sorted((demo / "videos").iterdir())):
        place = root / ("batch1", "batch2", "new_vids")[number % 3]
        place.mkdir(exist_ok=True)
        shutil.copyfile(file, place / file.with_suffix(".MP4" if number % 2 else ".mp4").name)
    home = root / "6th ABAW Annotations"
    for folder in CHALLENGES.values():
        for split, other in (("Train_Set", "Train_Set"), ("Validation_Set", "validation_set")):
            shutil.copytree(demo / "labels" / folder / split, home / folder / other)
            for file in list((home / folder / other).iterdir()):  # as an editor on Windows saves them
                file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n") + b"\r\n  \r\n")
    for name in ("training_set_annotations.txt", "validation_set_annotations.txt"):
        lines = (demo / "labels" / "MTL_Challenge" / name).read_text().splitlines()
        (home / name).write_text("\n".join([*lines, lines[7], lines[9]]) + "\n")  # two images are listed twice
    (root / "__MACOSX" / "batch1").mkdir(parents=True)
    (root / "__MACOSX" / "batch1" / "._a.mp4").write_bytes(b"\0")
    (root / "batch1.zip").write_bytes(b"PK")
