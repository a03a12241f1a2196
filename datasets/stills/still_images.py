"""The images of stills, decoded one by one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from abaw.core.errors import DataError
from abaw.datasets.frames import BrokenFrame, Frame
from abaw.datasets.stills.aligned_stills import AlignedStills
from abaw.datasets.stills.still_set import Still
from abaw.media.images import FORMATS, read_image

STILL_FORMATS = (*FORMATS, "TIFF")
SIDE = 48  # of the images of FER2013
PIXEL_BYTES = SIDE * SIDE * 4  # numbers of at most three digits, and spaces


def read_still(root: Path, still: Still, crop: bool = False) -> NDArray[np.uint8]:
    """(height, width, 3) uint8 RGB.

    Args:
        crop: the face as the authors of the set aligned it, where there is one.

    Raises:
        DataError: it cannot be read.
    """
    file = root / (still.crop if crop and still.crop else still.file)
    return read_image(file, formats=STILL_FORMATS) if still.at < 0 else _read_pixels(file, still.at)


def _read_pixels(file: Path, at: int) -> NDArray[np.uint8]:
    try:
        with file.open("rb") as stream:
            stream.seek(at)
            text = stream.read(PIXEL_BYTES)
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror}). Copy it again.") from error
    words = text.replace(b'"', b",").partition(b",")[0].split()
    if len(words) != SIDE * SIDE or not all(word.isdigit() and int(word) < 256 for word in words):
        raise DataError(f"{file} has {len(words)} values at byte {at}, not {SIDE * SIDE} from 0 to 255. Copy it again.")
    grey = np.array(words, dtype=np.uint8).reshape(SIDE, SIDE, 1)
    return np.ascontiguousarray(grey.repeat(3, axis=2))


@dataclass(frozen=True)
class StillImages:
    """Some stills of a set as rows: row i is the i-th of them.

    Attributes:
        aligned: where their aligned faces are; None takes the images as they are.
    """

    root: Path
    stills: Sequence[Still]
    aligned: AlignedStills | None

    @property
    def rows(self) -> NDArray[np.int64]:
        """(stills,) all rows."""
        return np.arange(len(self.stills))

    def read(self, start: int, stop: int) -> Iterator[Frame | BrokenFrame]:
        """Decode rows."""
        for row in range(start, stop):
            still = self.stills[row]
            try:
                if self.aligned is not None:
                    yield Frame(row, read_image(self.aligned.file_of(still)))
                else:
                    yield Frame(row, read_still(self.root, still, crop=True))
            except DataError as error:
                yield BrokenFrame(row, str(error))
