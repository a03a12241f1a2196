"""Drawn faces of people nobody of whom is in two splits, as crops and label files in the layout of Aff-Wild2."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from abaw.core.tasks import EXPRESSIONS
from abaw.datasets.demo.film import LABEL_FOLDERS, LABEL_HEADERS
from abaw.datasets.demo.identity import draw_identity
from abaw.datasets.demo.latents import (
    N_STAGINGS,
    N_VARIATIONS,
    Latents,
    Staging,
    compose_latents,
    compose_staging,
    draw_latents,
    draw_staging,
)
from abaw.datasets.demo.scene import SceneRenderer

N_IMAGES = 8  # of each person, if they are not a video: one of each expression
STRENGTHS = 0.5, 1.0
SPLITS = {"train": "Train_Set", "val": "Validation_Set"}
JPEG_QUALITY = 92
SIDE = 64  # of a crop, in pixels


@dataclass(frozen=True)
class Person:
    """The crops of somebody.

    Attributes:
        name: of the video.
        pictures: (n, 64, 64, 3) uint8 RGB.
        labels: by task, a row for each picture.
    """

    name: str
    pictures: NDArray[np.uint8]
    labels: Mapping[str, NDArray]


def draw_stills(rng: np.random.Generator, n_people: int, name: str) -> list[Person]:
    """People with an image of each expression, which have nothing else to do with each other."""
    people = []
    for number in range(n_people):
        classes = rng.permutation(len(EXPRESSIONS))
        latents = compose_latents(
            expression=np.eye(len(EXPRESSIONS))[classes],
            strength=rng.uniform(*STRENGTHS, N_IMAGES),
            variation=rng.standard_normal((N_IMAGES, N_VARIATIONS - 1)),
            blink=np.zeros(N_IMAGES),
        )
        staging = compose_staging(rng.standard_normal((N_IMAGES, N_STAGINGS)), rng.uniform(-0.16, 0.16))
        people.append(_film(rng, f"{name}-{number:03d}", latents, staging))
    return people


def draw_videos(
    rng: np.random.Generator, n_people: int, n_frames: int, n_segments: int, rate_hz: float, name: str
) -> list[Person]:
    """People with a video, in which one expression follows another."""
    people = []
    for number in range(n_people):
        latents = draw_latents(rng, n_frames, n_segments, rate_hz)
        people.append(_film(rng, f"{name}-{number:03d}", latents, draw_staging(rng, n_frames, rate_hz)))
    return people


def _film(rng: np.random.Generator, name: str, latents: Latents, staging: Staging) -> Person:
    renderer = SceneRenderer(draw_identity(rng), latents, staging, rng)
    pictures = np.stack([_reduced(renderer.crop(image, renderer.scene(image))) for image in range(latents.n_frames)])
    affect = np.column_stack([latents.valence, latents.arousal]).round(3)
    return Person(name, pictures, {"va": affect, "expr": latents.expression_labels()[:, None]})


def write_stills(rng: np.random.Generator, folder: Path, counts: Mapping[str, int]) -> tuple[Path, Path]:
    """Draw and write people with images of each expression.

    Args:
        counts: people of train, val and test.

    Returns:
        A folder of data for training, and one of the test people, which are its split `val`.
    """
    for split in SPLITS:
        write_faces(folder / "data", split, draw_stills(rng, counts[split], split))
    write_faces(folder / "test", "val", draw_stills(rng, counts["test"], "test"))
    return folder / "data", folder / "test"


def _reduced(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def write_faces(root: Path, split: str, people: Sequence[Person]) -> None:
    """Write people into a folder of data, as videos of a split."""
    for person in people:
        crops = root / "cropped_aligned" / person.name
        crops.mkdir(parents=True)
        for number, picture in enumerate(person.pictures, start=1):
            Image.fromarray(picture).save(crops / f"{number:05d}.jpg", quality=JPEG_QUALITY)
        for task, rows in person.labels.items():
            folder = root / "labels" / LABEL_FOLDERS[task] / SPLITS[split]
            folder.mkdir(parents=True, exist_ok=True)
            lines = [LABEL_HEADERS[task], *(",".join(f"{value:g}" for value in row) for row in rows.tolist())]
            (folder / f"{person.name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
