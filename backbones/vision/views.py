"""Views of a frame: mirrored, or with patches hidden at random. Names and random choices; no torch.

The features of a view are separate features: `vit-mean@hflip`, `mae-cls@mask0.75.0`.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from abaw.core.errors import UsageError

HFLIP = "hflip"
ALLOWED = (
    "Allowed are hflip (mirrored), mask<ratio> such as mask0.75 (that share of the patches hidden, 0 < ratio < 1; "
    "mask0.75.0, mask0.75.1, ... with several views), and no view."
)
_MASK = re.compile(r"mask(?P<ratio>0?\.\d+)(\.(?P<index>\d+))?")
_GOLDEN = 0x9E3779B97F4A7C15  # 2**64 over the golden ratio, the increment of splitmix64


@dataclass(frozen=True)
class Mask:
    """A masked view: the share of hidden patches, and its number among several views of a frame."""

    ratio: float
    index: int

    @property
    def view(self) -> str:
        """Its normalised name: `mask0.75.0`."""
        return f"mask{self.ratio:g}.{self.index}"


def parse_view(text: str, n_views: int = 1) -> list[str]:
    """Names of the requested views: `mask0.75` with 2 views gives `mask0.75.0` and `mask0.75.1`.

    Args:
        text: `hflip`, `mask<ratio>`, `mask<ratio>.<index>`, or "" for the frame as it is.
        n_views: how many differently masked views.

    Raises:
        UsageError: an unknown view, or several of a view that exists once.
    """
    match = _MASK.fullmatch(text)
    several = match is not None and match["index"] is None
    if n_views < 1 or (n_views > 1 and not several):
        raise UsageError(f"{n_views} views of {text or 'the frame as it is'!r} cannot be made. {ALLOWED}")
    if not several:
        mask = parse_mask(text)
        return [mask.view if mask else text]
    masks = [parse_mask(f"{text}.{index}") for index in range(n_views)]
    return [mask.view for mask in masks if mask]


def parse_mask(view: str) -> Mask | None:
    """The mask of a view's full name (`mask0.75.0`); None for the views without one, "" and `hflip`.

    Raises:
        UsageError: no such view.
    """
    if view in ("", HFLIP):
        return None
    match = _MASK.fullmatch(view)
    if match is None or not 0 < float(match["ratio"]) < 1:
        raise UsageError(f"Unknown view {view!r}. {ALLOWED}")
    if match["index"] is None:
        raise UsageError(f"The view {view!r} has no number. Write {view}.0, {view}.1, and so on.")
    return Mask(float(match["ratio"]), int(match["index"]))


def kept_patches(mask: Mask, keys: Sequence[tuple[str, int]], n_patches: int) -> NDArray[np.int64]:
    """Which patches each frame keeps: chosen only by its video, its number and the index of the view, not by its batch.

    Args:
        mask: the view.
        keys: video and frame number of each row.
        n_patches: of an image.

    Returns:
        (rows, kept), ascending. As in MAE, int(n_patches * (1 - ratio)) are kept, and at least one.
    """
    n_kept = max(1, int(n_patches * (1 - mask.ratio) + 1e-9))  # 10 * (1 - .9) is a little less than 1
    seeds = np.array([_seed(video, frame, mask.index) for video, frame in keys], dtype=np.uint64)
    steps = np.arange(1, n_patches + 1, dtype=np.uint64) * np.uint64(_GOLDEN)
    scores = _splitmix64(seeds[:, None] + steps)
    return np.sort(np.argsort(scores, axis=1, kind="stable")[:, :n_kept], axis=1)


def _seed(video: str, frame: int, index: int) -> int:
    digest = hashlib.blake2b(f"{video}\0{frame}\0{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def _splitmix64(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The output of splitmix64 (Steele, Lea and Flood, 2014), which does not depend on the version of numpy."""
    mixed = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
