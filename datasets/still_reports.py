"""What `abaw doctor` says about a folder with a set of still images."""

from collections.abc import Iterator
from os import cpu_count
from pathlib import Path

from abaw.core.errors import DataError
from abaw.core.progress import Reporter
from abaw.core.read_ahead import map_ahead
from abaw.datasets.stills.still_images import read_still
from abaw.datasets.stills.still_layouts import find_still_set
from abaw.datasets.stills.still_set import StillSet


def describe_stills(root: Path, reporter: Reporter) -> tuple[str, list[str]] | None:
    """The kind of the set in a folder, and sentences about it, whose images are all decoded; None if it is no set.

    Raises:
        DataError: a file of its labels is broken.
    """
    found = find_still_set(root)
    if found is None:
        return None
    counts = ", ".join(f"{n:,} {split}" for split, n in found.counts().items())
    people = f"; {len({still.subject for still in found.stills})} people" if found.has_subjects else ""
    first = (
        f"a set of still images with labels of {', '.join(found.tasks)}: {counts} images{people}; use it with --images"
    )
    return found.kind, [first, *found.notes, *found.left_out, *_unreadable(found, reporter)]


def _unreadable(found: StillSet, reporter: Reporter) -> Iterator[str]:
    """A sentence about images that cannot be read."""
    reasons = []

    def reason(number: int) -> str:
        try:
            read_still(found.root, found.stills[number])
        except DataError as error:
            return str(error)
        return ""

    reporter.start("doctor", len(found.stills), "images")
    for sentence in map_ahead(reason, range(len(found.stills)), cpu_count() or 1):
        reasons += [sentence] if sentence else []
        reporter.advance()
    reporter.finish()
    if reasons:
        yield f"{len(reasons):,} images cannot be read, such as: {reasons[0]}"
