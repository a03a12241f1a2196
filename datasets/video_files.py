"""Video files of a dataset: their suffixes, and which video and person a name means."""

from collections.abc import Mapping
from pathlib import Path

from abaw.core.json_files import read_json
from abaw.core.names import SIDES, composed

# common suffixes of files that FFmpeg opens; it recognises formats by content, not by suffix
SUFFIXES = (
    *(".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".mts", ".m2ts", ".flv", ".3gp", ".ts"),
    *(".asf", ".ogv", ".vob", ".3g2", ".f4v", ".m2v", ".mxf", ".divx", ".qt"),
)
FACES = "faces"  # folder of the tables and records that `abaw prepare` writes


class People:
    """The people that `abaw prepare` detected in videos, from its records in `faces/`.

    Args:
        root: of the dataset.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._of: dict[str, tuple[str, ...]] = {}

    def base_of(self, name: str) -> str:
        """The video of a person: the name without `_left`, `_right`, or a number that a record lists; empty for others."""
        for side in SIDES:
            if name.endswith(side):
                return name.removesuffix(side)
        base, _, number = name.rpartition("_")
        is_numbered = base and number.isascii() and number.isdigit()
        return base if is_numbered and name in self.of(base) else ""

    def is_prepared(self, name: str) -> bool:
        """True if `abaw prepare` made the crops with this name."""
        return name in self.of(name) or name in self.of(self.base_of(name))

    def of(self, video: str) -> tuple[str, ...]:
        """Names of the people in a video; empty if `abaw prepare` did not make it."""
        if video not in self._of:
            self._of[video] = self._read(video)
        return self._of[video]

    def _read(self, video: str) -> tuple[str, ...]:
        try:
            record = read_json(self._root / FACES / f"{video}.json")
            return tuple(composed(str(name)) for name in record["people"])
        except (OSError, ValueError, TypeError, KeyError):
            return ()


def video_file_of(name: str, files: Mapping[str, Path], people: People) -> Path | None:
    """The file of a video or person: of that name, or of the video that the person is in; see `People.base_of`.

    A number alone does not make a person: `video10_1` is not a person in `video10.mp4` but another recording.
    """
    return files.get(name) or files.get(people.base_of(name))
