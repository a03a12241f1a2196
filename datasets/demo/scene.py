"""The camera of the demo dataset: turns the shapes of a face into pictures of a scene and face crops."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from abaw.datasets.demo.face import FaceShapes
from abaw.datasets.demo.identity import Identity, mix
from abaw.datasets.demo.latents import Latents, Staging
from abaw.datasets.demo.shapes import Layer

CROP_PX = 112
SCENE_WIDTH_PX, SCENE_HEIGHT_PX = 160, 128
SUPERSAMPLING = 3  # shapes are drawn this many times larger, then averaged down
TURN = 0.045  # how far a head turn moves a layer of depth 1, in half crop widths
NOISE = 4.0  # standard deviation of the noise of a cheap camera, in grey levels
MIN_OPACITY = 6  # of 255; fainter shapes are left out


class SceneRenderer:
    """Draws the frames of one face in one video."""

    def __init__(
        self, identity: Identity, latents: Latents, staging: Staging, rng: np.random.Generator, noise: float = NOISE
    ) -> None:
        """Prepare all frames.

        Args:
            identity: who is filmed.
            latents: what the face shows.
            staging: how it is filmed.
            rng: source of the pixel noise.
            noise: standard deviation of the noise of a crop, in grey levels.
        """
        self._staging = staging
        self._background = as_fill((*mix(identity.background, (255, 255, 255), 0.1), 255))
        self._shapes = [self._to_pixels(layer) for layer in FaceShapes(identity, latents).layers]
        n_values = CROP_PX * CROP_PX * 3
        # One long strip of noise, read from a random place for every frame, costs far less than fresh noise.
        self._noise = np.rint(noise * rng.standard_normal(8 * n_values, np.float32)).astype(np.int16)
        self._offsets = rng.integers(7 * n_values, size=latents.n_frames)
        x = np.linspace(-1, 1, SCENE_WIDTH_PX, dtype=np.float32)[None, :, None]
        y = np.linspace(-1, 1, SCENE_HEIGHT_PX, dtype=np.float32)[:, None, None]
        self._slopes = (x * (SCENE_WIDTH_PX / CROP_PX), y)

    def scene(self, frame: int) -> NDArray:
        """(128, 160, 3) uint8 RGB picture of frame `frame`."""
        size = (SCENE_WIDTH_PX * SUPERSAMPLING, SCENE_HEIGHT_PX * SUPERSAMPLING)
        image = Image.new("RGB", size, self._background)
        draw = ImageDraw.Draw(image, "RGBA")
        for corners, fills in self._shapes:
            fill = fills[frame]
            if fill[3] >= MIN_OPACITY:
                draw.polygon(corners[frame], fill=fill)
        gain, right, down = self._staging.light[frame].astype(np.float32)
        light = np.maximum(gain + right * self._slopes[0] + down * self._slopes[1], 0.2)
        lit = np.asarray(image.reduce(SUPERSAMPLING)) * light
        return np.minimum(lit, 255, out=lit).astype(np.uint8)

    def crop(self, frame: int, scene: NDArray) -> NDArray:
        """Cut the face out of its scene.

        Args:
            frame: index of the frame.
            scene: what `scene(frame)` returned.

        Returns:
            (112, 112, 3) uint8 RGB, with its noise.
        """
        left, top = np.rint(self._staging.wander[frame]).astype(int)
        left += (SCENE_WIDTH_PX - CROP_PX) // 2
        top += (SCENE_HEIGHT_PX - CROP_PX) // 2
        face = scene[top : top + CROP_PX, left : left + CROP_PX]
        start = self._offsets[frame]
        noise = self._noise[start : start + face.size].reshape(face.shape)
        return np.clip(face + noise, 0, 255).astype(np.uint8)

    def _to_pixels(self, layer: Layer) -> tuple[list[list[float]], list[tuple[int, ...]]]:
        """Corners of a layer on the large canvas and its fill, per frame."""
        staging = self._staging
        points = layer.points + (TURN * layer.depth * staging.turn)[:, None]
        cosine, sine = np.cos(staging.angle), np.sin(staging.angle)
        rotation = np.stack([np.stack([cosine, sine], -1), np.stack([-sine, cosine], -1)], 1)
        points = staging.scale[:, None, None] * (points @ rotation) + staging.shift[:, None]
        middle = np.array([SCENE_WIDTH_PX, SCENE_HEIGHT_PX]) / 2
        pixels = (points * (CROP_PX / 2) + middle + staging.wander[:, None]) * SUPERSAMPLING
        opacity = np.rint(255 * layer.opacity).astype(int).tolist()
        fills = [as_fill((*layer.colour, alpha)) for alpha in opacity]
        return pixels.reshape(len(pixels), -1).tolist(), fills


def as_fill(colour: tuple[float, ...]) -> tuple[int, ...]:
    """A colour, with its opacity if there is one, in whole numbers, as Pillow expects them."""
    return tuple(round(value) for value in colour)
