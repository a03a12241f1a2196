"""FER+ (Barsoum et al., 2016): ten votes for each image of FER2013.

fer2013new.csv                           Usage,Image name,neutral,happiness,...,contempt,unknown,NF
fer2013.csv                              emotion,pixels,Usage, in the same order
FER2013Train|Valid|Test/fer0000000.png   instead of its pixels
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from abaw.core.errors import DataError
from abaw.datasets.stills.still_files import ImageFiles, bad_row, file_named, folder_named, number_in, table_rows
from abaw.datasets.stills.still_set import CONTEMPT, N_VOTED, TEST, TRAIN, VAL, LeftOut, Still, StillSet
from abaw.media.links import check_file

KIND = "FER+"
VOTES, PIXELS = "fer2013new.csv", "fer2013.csv"
VOTED = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
CLASSES = (0, 4, 6, 5, 1, 2, 3, CONTEMPT)
COLUMNS = ("Usage", "Image name", *VOTED, "unknown", "NF")
USAGES = {
    "training": (TRAIN, "FER2013Train"),
    "publictest": (VAL, "FER2013Valid"),
    "privatetest": (TEST, "FER2013Test"),
}
LONGEST_LINE = 65_536  # 48 * 48 numbers take 9,200 characters


def open_ferplus(root: Path) -> StillSet | None:
    """The set, if its votes are there with the pixels or with a folder of images.

    PublicTest is the split `val`, PrivateTest is `test`. The class of an image is the one with most votes; images where
    two have the most, or most voters saw none of the classes or no face, are left out.
    """
    votes, pixels = file_named(root, VOTES), file_named(root, PIXELS)
    folders = {split: folder_named(root, name) for split, name in USAGES.values()}
    if votes is None or (pixels is None and not any(folders.values())):
        return None
    files, left_out, stills = ImageFiles(root), LeftOut(), []
    places = _places(pixels) if pixels is not None and not any(folders.values()) else None
    for line, row in table_rows(votes):
        if line == 1 and row[0].casefold() == COLUMNS[0].casefold():
            continue
        if len(row) != len(COLUMNS):
            raise bad_row(votes, line, f"{len(COLUMNS)} values expected ({','.join(COLUMNS)}), found {len(row)}")
        if row[0].casefold() not in USAGES:
            raise bad_row(votes, line, f"Usage should be Training, PublicTest or PrivateTest, found {row[0][:30]!r}")
        split, _ = USAGES[row[0].casefold()]
        at = _place_of(places, row[0], votes, line) if places is not None else -1
        counts = [
            number_in(votes, line, name, text, range(1_000)) for name, text in zip(COLUMNS[2:], row[2:], strict=True)
        ]
        voted = _voted(counts)
        if not row[1] or voted is None:
            left_out.add("images have no class with most votes", row[1] or f"line {line}")
            continue
        file: str | None
        if places is not None:
            file = PIXELS if pixels is None else pixels.name
        else:
            file = files.find(f"{folders[split]}/{row[1]}", votes, line) if folders[split] else None
        if file is None:
            left_out.add("images are missing", row[1])
            continue
        stills.append(Still(file, split, expression=voted[0], votes=voted[1], at=at))
    notes = ("PublicTest is the validation split, PrivateTest is the split test",)
    return StillSet(KIND, root, tuple(stills), tuple(left_out.sentences()), notes)


def _voted(counts: list[float]) -> tuple[int, tuple[float, ...]] | None:
    """The class with most votes, and the shares of all; None if there is no such class."""
    most = max(counts)
    leading = [number for number, count in enumerate(counts) if count == most]
    if len(leading) > 1 or leading[0] >= len(CLASSES):
        return None
    shares = np.zeros(N_VOTED)
    shares[list(CLASSES)] = counts[: len(CLASSES)]
    return CLASSES[leading[0]], tuple((shares / shares.sum()).tolist())


def _places(path: Path) -> Iterator[tuple[str, int]]:
    """The usage of each image, and where its pixels begin in bytes."""
    with check_file(path).open("rb") as stream:
        begin, number = 0, 0
        while content := stream.readline(LONGEST_LINE):
            number += 1
            if len(content) == LONGEST_LINE:
                raise bad_row(path, number, "it is too long for the pixels of an image")
            first, _, rest = content.partition(b",")
            pixels, _, usage = rest.rpartition(b",")
            if first.strip().isdigit():
                yield (
                    usage.strip().decode(errors="replace"),
                    begin + len(first) + 1 + (len(pixels) - len(pixels.lstrip(b'"'))),
                )
            elif number > 1 and content.strip():
                raise bad_row(path, number, "emotion,pixels,Usage expected")
            begin += len(content)


def _place_of(places: Iterator[tuple[str, int]], usage: str, votes: Path, line: int) -> int:
    """Where the pixels of the next image begin."""
    known, at = next(places, ("", -1))
    if known.casefold() != usage.casefold():
        raise DataError(
            f"{votes} line {line} is of {usage}, and the same row of {PIXELS} of {known or 'nothing'}: they are not in the "
            "same order. Take both files as they are published."
        )
    return at
