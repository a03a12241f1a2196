"""A dataset of drawn faces and synthetic voices in the official layout of Aff-Wild2, quirks included.

It needs no licence and no download, so that every command can be tried and tested on it. What a face and a
voice show follows known smooth courses of valence, arousal, expression and action units; persons of the
training and the validation split differ. Expect missing crops, invalid labels, label files that do not match
the number of frames, two frame rates and two people in one video, as in the real data. The annotation files of the
multi-task challenge list the frames that have a crop, with the same labels.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from abaw.datasets.demo.film import LABEL_FOLDERS, PARTIAL, SPLIT_FOLDERS, write_annotations, write_film
from abaw.datasets.demo.film_plan import SIZES, DemoSize, Film, check_empty, n_frames_of, plan_films
from abaw.datasets.demo.parallel import write_in_parallel

__all__ = ["SIZES", "DemoSize", "n_frames_of", "write_demo"]


def write_demo(
    root: Path,
    size: str = "small",
    seed: int = 0,
    workers: int | None = None,
    on_frames: Callable[[int], None] | None = None,
) -> None:
    """Write a demo dataset: crops, labels and videos with sound.

    Args:
        root: folder to create; it may exist if it is empty.
        size: a name of `SIZES`.
        seed: same size and seed, same crops and labels, byte by byte.
        workers: number of processes; by default one per processor.
        on_frames: called now and then with the number of faces drawn since the last call.
    """
    films = plan_films(size, seed)
    root = check_empty(root)
    for split in SPLIT_FOLDERS.values():
        for task in LABEL_FOLDERS.values():
            (root / "labels" / task / split).mkdir(parents=True)
    for folder in ("cropped_aligned", "videos", PARTIAL):
        (root / folder).mkdir()
    report = on_frames or (lambda n_frames: None)
    n_workers = min(workers or os.cpu_count() or 1, len(films))
    try:
        if n_workers == 1:
            for film in films:
                for n_drawn in write_film(root, film):
                    report(n_drawn)
        else:
            longest_first = sorted(films, key=lambda film: -film.n_frames * len(film.seeds))
            write_in_parallel(_write_whole_film, root, longest_first, n_workers, report)
        write_annotations(root, films)
    finally:
        shutil.rmtree(root / PARTIAL, ignore_errors=True)


def _write_whole_film(root: Path, film: Film) -> int:
    """Write one film; returns the number of faces drawn."""
    return sum(write_film(root, film))
