"""Draw a clip: each cut-out is decoded once; a frame costs a copy and a few small patches, turned once a clip on paths."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from abaw.core.errors import DataError
from abaw.datasets.synth.cutouts import (
    LABELS,
    VISIBLE_ALPHA,
    Material,
    draw_background,
    read_background,
    read_cutout,
    size_within,
)
from abaw.datasets.synth.paths import Paths, SynthOptions, place_faces, plan_paths

N_PLANS = 50  # sets of scales and angles that are tried before a clip is given up
N_CUTOUTS_KEPT, N_BACKGROUNDS_KEPT = 2048, 64  # decoded images in memory: 44 kB and 319 kB each


@dataclass(frozen=True)
class Patch:
    """A face, scaled and rotated, ready to be drawn.

    Attributes:
        colour: (height, width, 3) uint16 in 0..255, multiplied by alpha.
        behind: (height, width, 3) uint16, 255 - alpha: what is left of the background.
        area: visible pixels.
    """

    colour: NDArray[np.uint16]
    behind: NDArray[np.uint16]
    area: int


@dataclass(frozen=True)
class PastedFace:
    """What is drawn of one face.

    Attributes:
        file: the cut-out.
        longest_px: its longer side before it is rotated.
        angle_deg: counter-clockwise.
        patch: the face itself.
    """

    file: Path
    longest_px: int
    angle_deg: float
    patch: Patch


@dataclass(frozen=True)
class SynthClip:
    """A planned clip: background (side, side, 3) uint8 RGB, the faces in drawing order, and their paths."""

    label: str
    background: NDArray[np.uint8]
    faces: tuple[PastedFace, ...]
    paths: Paths


class ClipMaker:
    """Plans and draws clips; keeps decoded images for the next one.

    Args:
        material: files to make them of.
        options: the rules.
    """

    def __init__(self, material: Material, options: SynthOptions) -> None:
        self._material, self._options = material, options
        # twice the largest size shown: as sharp as from the file, and a tenth of its memory
        self._cutout = lru_cache(N_CUTOUTS_KEPT)(partial(read_cutout, longest_px=2 * options.longest_px))
        self._background = lru_cache(N_BACKGROUNDS_KEPT)(
            partial(read_background, side_px=options.side_px, is_stretched=options.stretch)
        )

    def plan(self, number: int) -> SynthClip:
        """Decide everything about clip `number` (from 0) with faces on paths; no other clip matters for it.

        Raises:
            DataError: an image cannot be read, or the faces are so large that the fewest allowed find no room.
        """
        label, rng, background, files = self._begin(number)
        for _ in range(N_PLANS):
            faces, boxes, areas = self._turn_all(rng, files)
            paths = plan_paths(rng, boxes, areas, self._options)
            if paths is not None:
                return SynthClip(label, background, tuple(faces[face] for face in paths.faces.tolist()), paths)
        raise self._no_room(number, label, "its last frame")

    def draw(self, number: int) -> NDArray[np.uint8]:
        """Plan and draw clip `number`: (frames, side, side, 3) uint8 RGB; the classes take turns.

        Raises:
            DataError: see `plan`.
        """
        if self._options.motion == "path":
            return render(self.plan(number), self._options.n_frames)
        label, rng, background, files = self._begin(number)
        frames = np.empty((self._options.n_frames, *background.shape), np.uint8)
        frames[:] = background
        for k, frame in enumerate(frames):
            placed = self._place(rng, files, k)
            if not placed:
                raise self._no_room(number, label, f"frame {k + 1}")
            for patch, left, top in placed:
                _paste(frame, patch, left, top)
        return frames

    def _place(self, rng: np.random.Generator, files: Sequence[Path], k: int) -> list[tuple[Patch, int, int]]:
        """Faces of frame number `k`, each with left and top of its place; none if too few of them find room."""
        for _ in range(N_PLANS):
            faces, boxes, areas = self._turn_all(rng, files)
            placed = place_faces(rng, boxes, areas, k, self._options)
            if len(placed) >= self._options.min_faces:
                return [(faces[face].patch, *corner.tolist()) for face, corner in placed]
        return []

    def _begin(self, number: int) -> tuple[str, np.random.Generator, NDArray[np.uint8], list[Path]]:
        """What a clip begins with: its class, its source of randomness, background and cut-outs."""
        label = list(LABELS)[number % len(LABELS)]
        rng = np.random.default_rng([self._options.seed, number])
        background = self._draw_background(rng)
        return label, rng, background, self._choose_faces(rng, self._material.faces[label])

    def _no_room(self, number: int, label: str, where: str) -> DataError:
        return DataError(
            f"Clip {number + 1} ({label}) has no room for {self._options.min_faces} faces in {where}: none of "
            f"{N_PLANS} plans did. Ask for smaller or fewer faces, or fewer frames."
        )

    def _turn_all(
        self, rng: np.random.Generator, files: Sequence[Path]
    ) -> tuple[list[PastedFace], NDArray[np.int64], NDArray[np.int64]]:
        """Turned cut-outs, with width and height of each, (faces, 2), and the visible pixels of each, (faces,)."""
        faces = [self._turn(rng, file) for file in files]
        boxes = np.array([face.patch.colour.shape[1::-1] for face in faces], np.int64)
        return faces, boxes, np.array([face.patch.area for face in faces], np.int64)

    def _draw_background(self, rng: np.random.Generator) -> NDArray[np.uint8]:
        files = self._material.backgrounds
        if files:
            return self._background(files[int(rng.integers(len(files)))])
        return draw_background(rng, self._options.side_px)

    def _choose_faces(self, rng: np.random.Generator, files: tuple[Path, ...]) -> list[Path]:
        """Some of the cut-outs, none twice unless there are too few."""
        n_faces = int(rng.integers(self._options.min_faces, self._options.max_faces + 1))
        chosen: list[int] = []
        while len(chosen) < n_faces:
            chosen += rng.choice(len(files), min(len(files), n_faces - len(chosen)), replace=False).tolist()
        return [files[face] for face in chosen]

    def _turn(self, rng: np.random.Generator, file: Path) -> PastedFace:
        """Scale and perhaps rotate a cut-out."""
        options = self._options
        longest_px = int(options.base_px * rng.uniform(options.min_scale, options.max_scale))
        rotates = rng.random() < options.rotate_probability
        angle_deg = float(rng.uniform(-options.max_angle_deg, options.max_angle_deg)) if rotates else 0.0
        patch = make_patch(self._cutout(file), longest_px, angle_deg, options.squash)
        return PastedFace(file, longest_px, angle_deg, patch)


def make_patch(cutout: Image.Image, longest_px: int, angle_deg: float, is_squashed: bool = False) -> Patch:
    """Scale a cut-out to a longer side, rotate it counter-clockwise and cut away what shows nothing.

    Args:
        cutout: mode RGBa, as `read_cutout` gives it.
        longest_px: longer side before rotation.
        angle_deg: degrees.
        is_squashed: make it a square.
    """
    size = (longest_px, longest_px) if is_squashed else size_within(cutout.size, longest_px)
    image = cutout.resize(size, Image.Resampling.BILINEAR)
    if angle_deg:
        image = image.rotate(angle_deg, Image.Resampling.BILINEAR, expand=True)
    pixels = np.asarray(image)
    rows, columns = (np.flatnonzero(pixels[:, :, 3].any(axis)) for axis in (1, 0))
    pixels = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    alpha = pixels[:, :, 3]
    behind = np.repeat((255 - alpha.astype(np.uint16))[:, :, None], 3, axis=2)  # of one layout with the colours
    return Patch(pixels[:, :, :3].astype(np.uint16), behind, int((alpha >= VISIBLE_ALPHA).sum()))


def render(clip: SynthClip, n_frames: int) -> NDArray[np.uint8]:
    """Draw all frames of a clip: (frames, side, side, 3) uint8 RGB."""
    frames = np.empty((n_frames, *clip.background.shape), np.uint8)
    frames[:] = clip.background
    for face, corners, n_shown in zip(clip.faces, clip.paths.corners, clip.paths.n_shown.tolist(), strict=True):
        for frame, (left, top) in zip(frames, corners[:n_shown].tolist(), strict=False):
            _paste(frame, face.patch, left, top)
    return frames


def _paste(frame: NDArray[np.uint8], patch: Patch, left: int, top: int) -> None:
    height, width = patch.colour.shape[:2]
    blend(frame[top : top + height, left : left + width], patch)


def blend(target: NDArray[np.uint8], patch: Patch) -> None:
    """Draw a patch over a part of a frame, in place: colour + background x (255 - alpha) / 255.

    Args:
        target: (height, width, 3) uint8, the pixels that the patch covers.
        patch: what to draw.
    """
    mixed = target * patch.behind
    mixed += 128
    mixed += mixed >> 8
    mixed >>= 8  # with the two lines above: division by 255, rounded, exact up to 255 x 255
    mixed += patch.colour
    target[:] = mixed
