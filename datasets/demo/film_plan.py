"""What the demo dataset consists of: its sizes, its videos and who appears in them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from abaw.core.errors import UsageError
from abaw.datasets.demo.identity import Identity, draw_identity
from abaw.datasets.demo.latents import Latents, draw_latents

LABELLED_TASKS = ("va", "expr", "au")


@dataclass(frozen=True)
class DemoSize:
    """How large a demo dataset is.

    Attributes:
        n_train: number of training videos; the first one shows two people.
        n_validation: number of validation videos.
        n_frames: average number of frames of a video.
        n_segments: number of expressions a face shows in a video, a multiple of 8.
    """

    n_train: int
    n_validation: int
    n_frames: int
    n_segments: int


SIZES: dict[str, DemoSize] = {
    "tiny": DemoSize(n_train=4, n_validation=2, n_frames=110, n_segments=8),
    "small": DemoSize(n_train=11, n_validation=6, n_frames=600, n_segments=8),
    "large": DemoSize(n_train=55, n_validation=24, n_frames=1250, n_segments=16),
}


@dataclass(frozen=True)
class Film:
    """One video file of the demo dataset and the faces in it.

    Attributes:
        base: name of the video file without suffix.
        split: the split it belongs to.
        index: number of the video in the whole dataset.
        seeds: the random state of each face from left to right; it decides the person and what it does.
        n_frames: number of frames.
        n_segments: number of expressions shown.
        rate_hz: frames per second.
        tasks: tasks it has labels for.
        n_spare_rows: label rows minus frames.
        missing_at: where one run of missing crops must lie.
    """

    base: str
    split: Literal["train", "validation"]
    index: int
    seeds: tuple[tuple[int, ...], ...]
    n_frames: int
    n_segments: int
    rate_hz: int
    tasks: tuple[str, ...]
    n_spare_rows: int
    missing_at: Literal["start", "end", "anywhere"]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the faces' crops and labels, in the order of `seeds`."""
        return (self.base,) if len(self.seeds) == 1 else (f"{self.base}_left", f"{self.base}_right")


def get_size(name: str) -> DemoSize:
    """The size called `name`; a UsageError lists the known ones."""
    if name not in SIZES:
        raise UsageError(f"Unknown demo size {name!r}. Choose one of: {', '.join(SIZES)}.")
    return SIZES[name]


def check_empty(root: Path) -> Path:
    """Return the folder for a demo dataset; raise a UsageError unless it is new or empty."""
    root = Path(root)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise UsageError(
            f"The demo needs a new or empty folder, but {root} already holds something:"
            " choose another folder or delete this one."
        )
    return root


def plan_films(size: str, seed: int = 0) -> tuple[Film, ...]:
    """Decide on all videos of a demo dataset without drawing anything.

    Args:
        size: a name of `SIZES`.
        seed: same seed, same dataset.
    """
    numbers = get_size(size)
    films = []
    for index in range(numbers.n_train + numbers.n_validation):
        train = index < numbers.n_train
        number = index if train else index - numbers.n_train
        length = np.random.default_rng([seed, index]).uniform(0.85, 1.15)
        films.append(
            Film(
                base=f"demo-{index + 1:02d}",
                split="train" if train else "validation",
                index=index,
                # Each video has its own faces, so that no person is in both splits.
                seeds=tuple((seed, index, face) for face in range(2 if index == 0 else 1)),
                n_frames=round(numbers.n_frames * length),
                n_segments=numbers.n_segments,
                rate_hz=25 if number % 2 else 30,
                tasks=tuple(task for task in LABELLED_TASKS if not (task == "au" and index == 3)),
                n_spare_rows=-1 if index == 2 else 1,
                missing_at="start" if number == 1 else "end" if index == 2 else "anywhere",
            )
        )
    return tuple(films)


def n_frames_of(size: str, seed: int = 0) -> int:
    """Number of faces that `write_demo` draws in total, those without a crop included."""
    return sum(film.n_frames * len(film.seeds) for film in plan_films(size, seed))


def person_of(seed: tuple[int, ...]) -> Identity:
    """The person that a face with this random state shows (see `Film.seeds`)."""
    return draw_identity(np.random.default_rng([*seed, 1]))


def latents_of(film: Film, face: int = 0) -> Latents:
    """The true affect behind a face of a film, before any label is made invalid."""
    rng = np.random.default_rng([*film.seeds[face], 2])
    return draw_latents(rng, film.n_frames, film.n_segments, film.rate_hz)
