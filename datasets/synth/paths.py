"""Positions of the faces of a clip in every frame: straight paths inside a growing margin, found by limited search."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from abaw.core.errors import UsageError

N_PLACES = 256  # starts and ends drawn for a face
N_PATHS = 16  # of those that begin well, followed through all frames; the one that shows longest is taken


@dataclass(frozen=True)
class SynthOptions:
    """The rules of a clip, by default those of the EmotiW 2023 winners' generator.

    Attributes:
        seed: of every random choice; same seed and same images, same clips.
        n_frames: frames of a clip.
        side_px: width and height of a frame, even.
        base_px: longer side of a face before scaling.
        min_scale, max_scale: range of the scale.
        min_faces, max_faces: range of the number of faces.
        rotate_probability: share of the faces that are rotated.
        max_angle_deg: largest rotation, either way.
        max_overlap: largest intersection of two boxes, as a share of the visible area of the smaller face.
        margin_px: distance of the boxes from the borders in the first frame.
        margin_growth_px: what is added to it every frame.
        motion: "frame" draws place, scale and angle of each face in every frame; "path" once a clip, and moves it on a
            straight line.
        squash: make every face a square; else it keeps its proportions.
        stretch: stretch backgrounds to a square; else their middle is taken.

    Raises:
        UsageError: a value is out of range, or the last frame's margin leaves no room for a face.
    """

    seed: int = 0
    n_frames: int = 75
    side_px: int = 326
    base_px: int = 350
    min_scale: float = 0.10
    max_scale: float = 0.15
    min_faces: int = 3
    max_faces: int = 15
    rotate_probability: float = 0.5
    max_angle_deg: float = 45.0
    max_overlap: float = 0.001
    margin_px: int = 30
    margin_growth_px: int = 1
    motion: Literal["frame", "path"] = "frame"
    squash: bool = True
    stretch: bool = True

    def __post_init__(self) -> None:
        wrong = {
            "seed": self.seed < 0,
            "n_frames": self.n_frames < 1,
            "side_px": self.side_px < 2 or self.side_px % 2 != 0,
            "min_scale, max_scale": not 0 < self.min_scale <= self.max_scale or self.base_px * self.min_scale < 1,
            "min_faces, max_faces": not 1 <= self.min_faces <= self.max_faces,
            "rotate_probability": not 0 <= self.rotate_probability <= 1,
            "max_angle_deg": not 0 <= self.max_angle_deg <= 180,
            "max_overlap": not 0 <= self.max_overlap < 1,
            "motion": self.motion not in ("frame", "path"),
            "margin_px, margin_growth_px": min(self.margin_px, self.margin_growth_px) < 0,
        }
        for names, is_wrong in wrong.items():
            if is_wrong:
                got = ", ".join(str(getattr(self, name)) for name in names.split(", "))
                raise UsageError(f"Synthetic clips cannot have {names} = {got}. The defaults are {SynthOptions()}.")
        room_px = self.side_px - 2 * self.margin_at(self.n_frames - 1)
        if room_px < self.longest_px:
            raise UsageError(
                f"The margin of the last frame leaves {room_px} px for a face of {self.longest_px} px. "
                "Ask for fewer frames, smaller faces or a smaller margin."
            )

    @property
    def longest_px(self) -> int:
        """Longer side of the largest face, before it is rotated."""
        return int(self.base_px * self.max_scale)

    def margin_at(self, frame: int) -> int:
        """Least distance in pixels of the boxes from the borders in a frame, counted from 0."""
        return self.margin_px + self.margin_growth_px * frame


@dataclass(frozen=True)
class Paths:
    """Where faces are; face by face in the order in which they are drawn.

    Attributes:
        faces: (faces,) int64 which of the faces that were asked for these are.
        corners: (faces, frames, 2) int64 left and top of the box in pixels.
        n_shown: (faces,) int64 frames from the first in which a face shows.
    """

    faces: NDArray[np.int64]
    corners: NDArray[np.int64]
    n_shown: NDArray[np.int64]


def plan_paths(
    rng: np.random.Generator, boxes: NDArray[np.int64], areas: NDArray[np.int64], options: SynthOptions
) -> Paths | None:
    """Find paths for faces, one face after the other.

    Args:
        rng: source of randomness.
        boxes: (faces, 2) width and height in pixels.
        areas: (faces,) visible pixels.
        options: the rules.

    Returns:
        Paths of the faces for which there is room in the first frame; None if one of the first `min_faces` finds no
        path to the end of the clip within the tries.
    """
    placed: list[int] = []
    corners = np.zeros((0, options.n_frames, 2), np.int64)
    n_shown = np.zeros(0, np.int64)
    for face in range(len(boxes)):
        starts, ends = (
            _draw_corners(rng, boxes[face], options.margin_at(k), options) for k in (0, options.n_frames - 1)
        )
        limits = options.max_overlap * np.minimum(areas[face], areas[placed])
        hits = _Hits(boxes[face], corners, boxes[placed], n_shown, limits)
        order = np.argsort(hits.at(ends[:, None], -1)[:, 0], kind="stable")  # those that also end well come first
        order = order[~hits.at(starts[order, None], 0)[:, 0]][:N_PATHS]
        paths = _straight(starts[order], ends[order], options.n_frames)
        shown = hits.n_frames_before(paths)
        best = int(shown.argmax()) if len(shown) else -1
        if len(placed) < options.min_faces and (best < 0 or shown[best] < options.n_frames):
            return None
        if best >= 0:
            placed.append(face)
            corners = np.concatenate([corners, paths[best : best + 1]])
            n_shown = np.append(n_shown, shown[best])
    return Paths(np.array(placed, np.int64), corners, n_shown)


def place_faces(
    rng: np.random.Generator, boxes: NDArray[np.int64], areas: NDArray[np.int64], frame: int, options: SynthOptions
) -> list[tuple[int, NDArray[np.int64]]]:
    """Find places for faces in one frame, one face after the other; those that find no room are left out.

    Args:
        boxes, areas: see `plan_paths`.
        frame: its number, from 0.

    Returns:
        Which face, and left and top of its box, (2,) int64, for each face that has a place.
    """
    placed: list[tuple[int, NDArray[np.int64]]] = []
    for face, box in enumerate(boxes):
        corners = _draw_corners(rng, box, options.margin_at(frame), options)
        others = [other for other, _ in placed]
        taken = np.array([corner for _, corner in placed], np.int64).reshape(-1, 2)
        limits = options.max_overlap * np.minimum(areas[face], areas[others])
        hits = _Hits(box, taken[:, None], boxes[others], np.ones(len(placed), np.int64), limits)
        free = np.flatnonzero(~hits.at(corners[:, None], 0)[:, 0])
        if len(free):
            placed.append((face, corners[free[0]]))
    return placed


def _draw_corners(
    rng: np.random.Generator, box: NDArray[np.int64], margin_px: int, options: SynthOptions
) -> NDArray[np.int64]:
    """(places, 2) left and top of a box inside a margin."""
    return rng.integers(margin_px, np.maximum(options.side_px - margin_px - box, margin_px) + 1, (N_PLACES, 2))


def _straight(starts: NDArray[np.int64], ends: NDArray[np.int64], n_frames: int) -> NDArray[np.int64]:
    """(paths, frames, 2) whole pixels on the lines between starts and ends, both (paths, 2)."""
    steps = max(n_frames - 1, 1)
    frame = np.arange(n_frames)[:, None]
    return (starts[:, None] * (steps - frame) + ends[:, None] * frame + steps // 2) // steps


@dataclass(frozen=True)
class _Hits:
    """Finds where a face would overlap those that have their paths.

    Attributes:
        box: (2,) width and height of the face.
        corners, boxes, n_shown: (placed, frames, 2), (placed, 2) and (placed,) of the others.
        limits: (placed,) pixels by which it may overlap each.
    """

    box: NDArray[np.int64]
    corners: NDArray[np.int64]
    boxes: NDArray[np.int64]
    n_shown: NDArray[np.int64]
    limits: NDArray[np.float64]

    def at(self, corners: NDArray[np.int64], frame: int | slice) -> NDArray[np.bool_]:
        """(paths, frames) True where it overlaps another too much.

        Args:
            corners: (paths, frames, 2) of the face.
            frame: the frames of the others that belong to these, a single one by its number.
        """
        frames = np.arange(self.corners.shape[1])[frame].reshape(-1)
        placed_corners = self.corners[:, frames]
        candidates = corners[:, None]  # (paths, placed, frames, 2)
        common = np.minimum(candidates + self.box, placed_corners + self.boxes[:, None]) - np.maximum(
            candidates, placed_corners
        )
        overlaps = common.clip(0).prod(-1) > self.limits[:, None]
        return (overlaps & (frames < self.n_shown[:, None])).any(1)

    def n_frames_before(self, corners: NDArray[np.int64]) -> NDArray[np.int64]:
        """(paths,) frames before the first in which it overlaps another too much; all of them if there is none."""
        wrong = self.at(corners, slice(None))
        return np.where(wrong.any(1), wrong.argmax(1), corners.shape[1])
