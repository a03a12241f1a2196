"""Filled shapes over all frames of a video at once, frames first.

Points are in face units: the origin is the middle of the crop, x points right, y points down, and the crop
reaches from -1 to 1.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from abaw.datasets.demo.identity import Colour

AROUND = np.linspace(0, 2 * np.pi, 28, endpoint=False)


@dataclass(frozen=True)
class Layer:
    """One filled polygon per frame.

    Attributes:
        points: (frames, corners, 2) float64 in face units.
        colour: RGB in [0, 255].
        opacity: (frames,) float64 in [0, 1].
        depth: how far the polygon moves when the head turns; 0 for the body, 1 for the tip of the nose.
    """

    points: NDArray
    colour: Colour
    opacity: NDArray
    depth: float


class Shapes:
    """A list of layers, from back to front, in `layers`."""

    def __init__(self, n_frames: int) -> None:
        """Start without a layer, for `n_frames` frames."""
        self.n_frames = n_frames
        self.layers: list[Layer] = []

    def fill(self, x: ArrayLike, y: ArrayLike, colour: Colour, opacity: ArrayLike = 1.0, depth: float = 0.5) -> None:
        """Add a polygon; x and y spread to (frames, corners), opacity to (frames,)."""
        x, y = np.broadcast_arrays(np.atleast_2d(x), np.atleast_2d(y))
        points = np.stack([x, y], -1)
        points = np.broadcast_to(points, (self.n_frames, *points.shape[1:]))
        flat = np.asarray(opacity).reshape(-1).clip(0, 1)
        self.layers.append(Layer(points, colour, np.broadcast_to(flat, (self.n_frames,)), depth))

    def oval(
        self,
        x: NDArray | float,
        y: NDArray | float,
        width: NDArray | float,
        height: NDArray | float,
        colour: Colour,
        opacity: NDArray | float = 1.0,
    ) -> None:
        """Add an ellipse; the arguments are numbers or (frames, 1)."""
        self.fill(x + np.cos(AROUND) * width, y + np.sin(AROUND) * height, colour, opacity)

    def stroke(
        self,
        x: ArrayLike,
        y: ArrayLike,
        width: ArrayLike,
        colour: Colour,
        opacity: ArrayLike = 1.0,
        depth: float = 0.5,
    ) -> None:
        """Add a line along (frames or 1, points); `width` is half its thickness, per point or one number."""
        x, y = np.broadcast_arrays(np.atleast_2d(x), np.atleast_2d(y))
        along_x, along_y = np.gradient(x, axis=1), np.gradient(y, axis=1)
        length = np.hypot(along_x, along_y) + 1e-9
        off_x, off_y = -along_y / length * width, along_x / length * width
        outline_x = np.concatenate([x + off_x, (x - off_x)[:, ::-1]], 1)
        outline_y = np.concatenate([y + off_y, (y - off_y)[:, ::-1]], 1)
        self.fill(outline_x, outline_y, colour, opacity, depth)

    def between(
        self, x: ArrayLike, upper: ArrayLike, lower: ArrayLike, colour: Colour, opacity: ArrayLike = 1.0
    ) -> None:
        """Add the area between two curves over the same x."""
        x, upper, lower = np.broadcast_arrays(np.atleast_2d(x), np.atleast_2d(upper), np.atleast_2d(lower))
        both_x = np.concatenate([x, x[:, ::-1]], 1)
        self.fill(both_x, np.concatenate([upper, lower[:, ::-1]], 1), colour, opacity)
