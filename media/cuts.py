"""Cuts in a video: pictures from which on everything looks different.

A picture is reduced to a histogram of its colours and a coarse grid of its brightness. It is the first after a cut if the
`LOOK` pictures from it on all differ from the `LOOK` before it, by both, and by more than the pictures on either side
differ from each other. So a flash of fewer pictures is no cut, nor is a light that is switched on, nor a camera that
pans; a dissolve is not noticed.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from abaw.media.pictures import Picture

LOOK = 4  # pictures on each side; what is shorter counts as a flash
# the mean of both distances: over real talk it stays below .12 four pictures apart, and is .69 and more between scenes
LEAST_DIFFERENCE = 0.25
LEAST_OF_GRID = 0.15  # light that is switched on changes the histogram by up to 1 and the grid by less than this
CONTRAST = 2.0  # times as different as neighbouring pictures of one scene
SAMPLED_PX, CELLS = 64, 16  # pixels looked at, and cells of the grid, along each side
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601
FLAT = 4.0  # grey levels: a grid that varies less has no structure


class _Look(NamedTuple):
    """What a picture looks like: (64,) shares of colours, and (256,) brightness of cells, centred and scaled to length 1."""

    colours: NDArray[np.float64]
    grid: NDArray[np.float32]


def note_cuts(pictures: Iterable[Picture], cuts: list[int]) -> Iterator[Picture]:
    """Yield pictures, and add the number of each first one after a cut to `cuts` before it is yielded.

    `LOOK` - 1 pictures are held back, in which a flash would end.
    """
    before: deque[_Look] = deque(maxlen=LOOK)
    waiting: deque[tuple[Picture, _Look]] = deque()
    n_since = LOOK  # pictures since the last cut

    def release() -> Picture:
        nonlocal n_since
        picture, look = waiting.popleft()
        n_since += 1
        if n_since > LOOK and _is_cut(list(before), [look, *(other for _, other in waiting)]):
            cuts.append(picture.number)
            n_since = 1
        before.append(look)
        return picture

    for picture in pictures:
        waiting.append((picture, _look(picture.image)))
        if len(waiting) == LOOK:
            yield release()
    while waiting:
        yield release()


def _look(image: NDArray[np.uint8]) -> _Look:
    rows, columns = (np.linspace(0, size - 1, SAMPLED_PX).astype(np.int64) for size in image.shape[:2])
    pixels = image[rows[:, None], columns]
    bins = (pixels >> 6).astype(np.int64) @ (16, 4, 1)
    colours = np.bincount(bins.ravel(), minlength=64) / SAMPLED_PX**2
    side = SAMPLED_PX // CELLS
    grid = (pixels @ LUMA).reshape(CELLS, side, CELLS, side).mean(axis=(1, 3)).ravel()
    grid -= grid.mean()
    return _Look(colours, grid / max(float(np.linalg.norm(grid)), FLAT * CELLS))


def _distances(first: _Look, second: _Look) -> tuple[float, float]:
    """Of colours: half the sum of differences; of grids: 1 - correlation, or less for flat ones."""
    colours = float(np.abs(first.colours - second.colours).sum()) / 2
    return colours, float(((first.grid - second.grid) ** 2).sum()) / 2


def _is_cut(before: list[_Look], after: list[_Look]) -> bool:
    """True if all pictures before differ from all after."""
    if not before:
        return False
    least = 1.0
    for first in reversed(before):
        for second in after:
            colours, grid = _distances(first, second)
            least = min(least, (colours + grid) / 2)
            if least < LEAST_DIFFERENCE or grid < LEAST_OF_GRID:
                return False
    steps = [sum(_distances(*pair)) / 2 for side in (before, after) for pair in pairwise(side)]
    return least > CONTRAST * float(np.median(steps or [0.0]))
