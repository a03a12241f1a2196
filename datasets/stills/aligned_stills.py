"""Faces of a set of stills, aligned once and kept in a folder next to that of the set, whose name ends in -aligned."""

from collections.abc import Iterable
from pathlib import Path

from abaw.core.errors import DataError
from abaw.datasets.stills.still_set import Still
from abaw.media.text_files import read_lines

LISTED = "aligned.tsv"  # a line for each image: what was seen in it, its bytes, its name
FACE, NO_FACE, UNREADABLE = "face", "none", "unreadable"  # what was seen in an image


class AlignedStills:
    """The aligned faces of the set under a root.

    Attributes:
        folder: holds them.
        seen: by name of an image, `FACE`, `NO_FACE` or `UNREADABLE`; images that are missing have not been looked at.
        sizes: by name of an image, its bytes at that time; 0 where it is not a file of its own.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.folder = root, root.resolve().with_name(f"{root.resolve().name}-aligned")
        self.seen: dict[str, str] = {}
        self.sizes: dict[str, int] = {}
        if (self.folder / LISTED).exists():
            for line in read_lines(self.folder / LISTED):
                seen, _, rest = line.partition("\t")
                size, _, name = rest.partition("\t")
                if seen in (FACE, NO_FACE, UNREADABLE) and size.isdigit() and name:  # the last line may be cut off
                    self.seen[name], self.sizes[name] = seen, int(size)

    def file_of(self, still: Still) -> Path:
        """The aligned face of an image."""
        return self.folder / f"{still.name}.jpg"

    def size_of(self, still: Still) -> int:
        """The bytes of an image; 0 where it is not a file of its own, or is missing."""
        try:
            return (self.root / still.file).stat().st_size if still.at < 0 else 0
        except OSError:
            return 0

    def missing(self, stills: Iterable[Still]) -> list[Still]:
        """Those that have not been looked at since they were last changed, or whose face is not there."""
        return [still for still in stills if self.sizes.get(still.name) != self.size_of(still) or self._is_lost(still)]

    def _is_lost(self, still: Still) -> bool:
        return self.seen[still.name] == FACE and not self.file_of(still).exists()

    def add(self, looked_at: Iterable[tuple[Still, str]]) -> None:
        """Note what was seen in images; the files of faces are there."""
        lines = []
        for still, seen in looked_at:
            self.seen[still.name], self.sizes[still.name] = seen, self.size_of(still)
            lines.append(f"{seen}\t{self.sizes[still.name]}\t{still.name}\n")
        with (self.folder / LISTED).open("a", encoding="utf-8", newline="\n") as file:
            file.write("".join(lines))

    def make_folder(self) -> None:
        """Make the folder.

        Raises:
            DataError: it cannot be written to.
        """
        try:
            self.folder.mkdir(exist_ok=True)
            (self.folder / LISTED).touch()
        except OSError as error:
            raise DataError(
                f"Aligned faces cannot be written into {self.folder} ({error.strerror}). Put the set, or a link to it, into a "
                "folder that can be written to, or take its images as they are with --aligned."
            ) from error
