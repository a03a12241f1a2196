"""The quality of crops, from the tables that `abaw prepare` writes into `faces/`."""

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from abaw.core.csv_cells import as_cell
from abaw.datasets.video_files import FACES, People

QUALITY = "quality"  # the column


class FaceTables:
    """Tables of the faces in videos.

    Args:
        root: of the dataset.
    """

    def __init__(self, root: Path) -> None:
        self._folder, self._people = root / FACES, People(root)

    def quality(self, person: str, n_frames: int) -> NDArray[np.float32] | None:
        """(frames,) the quality of a person's crops, 0 where the table has none.

        None where it is unknown: without a table, and for tables of older versions.
        """
        video = next(
            (video for video in (person, self._people.base_of(person)) if person in self._people.of(video)), ""
        )
        if not video:
            return None
        quality, cell = np.zeros(n_frames, dtype=np.float32), as_cell(person)
        try:
            with (self._folder / f"{video}.csv").open(newline="", encoding="utf-8") as stream:
                for row in csv.DictReader(stream):
                    if row["person"] == cell and 0 < int(row["frame"]) <= n_frames:
                        quality[int(row["frame"]) - 1] = float(row[QUALITY])
        except (OSError, ValueError, KeyError, TypeError, csv.Error):
            return None
        return quality if np.isfinite(quality).all() else None
