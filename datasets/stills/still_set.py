"""The common form of all sets of labelled still images."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from abaw.core.errors import DataError
from abaw.core.tasks import ACTION_UNITS, EXPRESSIONS

CONTEMPT = len(EXPRESSIONS)  # an expression that the tasks do not have, see `abaw.datasets.stills.still_labels`
UNLABELLED = -1  # expression, or action unit
NO_AFFECT = (-5.0, -5.0)
N_VOTED = len(EXPRESSIONS) + 1  # classes of votes: the expressions, and contempt
TRAIN, VAL, TEST = "train", "val", "test"


@dataclass(frozen=True, slots=True)
class Still:
    """One image with its labels; values without an annotation have the default.

    Attributes:
        file: relative to the root of its set, with slashes.
        split: `train`, `val` or `test`.
        subject: the person, where the set names one.
        expression: index in `EXPRESSIONS`, or `CONTEMPT`.
        affect: valence and arousal.
        units: 0, 1 or -1 for each of `ACTION_UNITS`.
        votes: shares of the votes for each of `EXPRESSIONS` and for contempt, which sum to 1.
        crop: the file of a face that the authors of the set aligned; empty takes `file`.
        landmarks: x and y of eyes, nose and corners of the mouth in pixels of `file`, see `five_of`.
        landmark_file: holds x and y of 68 points instead.
        at: where the pixels of the image begin in `file`, in bytes; -1 where `file` is an image.
    """

    file: str
    split: str
    subject: str = ""
    expression: int = UNLABELLED
    affect: tuple[float, float] = NO_AFFECT
    units: tuple[int, ...] = ()
    votes: tuple[float, ...] = ()
    crop: str = ""
    landmarks: tuple[float, ...] = ()
    landmark_file: str = ""
    at: int = -1

    @property
    def name(self) -> str:
        """Unique in its set, with slashes."""
        return self.file if self.at < 0 else f"{self.file}/{self.at}"


@dataclass
class LeftOut:
    """What a reader leaves out of a set, counted by reason, with the first example of each."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, reason: str, example: str) -> None:
        """Count one."""
        self.counts[reason] += 1
        self.examples.setdefault(reason, example)

    def sentences(self) -> list[str]:
        """One for each reason, such as `3 images are missing, such as a.jpg`."""
        return [f"{n:,} {reason}, such as {self.examples[reason]}" for reason, n in self.counts.items()]


@dataclass(frozen=True)
class StillSet:
    """The images of a set that are there and labelled.

    Attributes:
        kind: the name of the set or layout, such as `RAF-DB`.
        left_out: sentences on images and labels that are not used.
        notes: sentences on how its labels are read.
    """

    kind: str
    root: Path
    stills: tuple[Still, ...]
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks that it has labels for."""
        has = {
            "va": any(still.affect != NO_AFFECT for still in self.stills),
            "expr": any(still.expression != UNLABELLED for still in self.stills),
            "au": any(still.units for still in self.stills),
        }
        return tuple(task for task, is_there in has.items() if is_there)

    @property
    def has_subjects(self) -> bool:
        """True if every image names its person."""
        return all(still.subject for still in self.stills)

    def counts(self) -> dict[str, int]:
        """Number of images by split."""
        return dict(Counter(still.split for still in self.stills))


def check_set(found: StillSet) -> StillSet:
    """A set that was read.

    Raises:
        DataError: it has no image, or a subject is in two splits.
    """
    if not found.stills:
        reason = f": {'; '.join(found.left_out)}" if found.left_out else ""
        raise DataError(
            f"{found.root} looks like {found.kind}, but none of its images can be used{reason}. Copy it again."
        )
    splits: dict[str, str] = {}
    for still in found.stills:
        if still.subject and splits.setdefault(still.subject, still.split) != still.split:
            raise DataError(
                f"Subject {still.subject} of {found.root} is in the splits {splits[still.subject]} and {still.split}, and "
                "splits must not share people. Give all images of a subject the same split."
            )
    return found


def five_of(points: Sequence[float]) -> tuple[float, ...]:
    """x and y of the eyes, the nose and the corners of the mouth, from left to right, of 68 points (Multi-PIE)."""
    x, y = points[::2], points[1::2]
    chosen = (range(36, 42), range(42, 48), (30,), (48,), (54,))
    return tuple(sum(values[i] for i in part) / len(part) for part in chosen for values in (x, y))


_known_units: dict[tuple[int, ...], tuple[int, ...]] = {}  # equal ones are one object: sets have a million images


def units_from(values: dict[int, int]) -> tuple[int, ...]:
    """`Still.units` of action units by number; those that the task does not have are left out."""
    units = tuple(values.get(int(name.removeprefix("AU")), UNLABELLED) for name in ACTION_UNITS)
    return _known_units.setdefault(units, units)
