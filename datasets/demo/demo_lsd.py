"""A small dataset of drawn faces in the layout of the challenge on learning from synthetic data.

The training images look synthetic: evenly lit and free of noise. The validation images show other people, and look
like those of cheap cameras: light from a side, noise, coarse JPEG. The folder of anger is misspelt in training, as in
the release.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from abaw.core.errors import UsageError
from abaw.core.output_stream import OutputStream
from abaw.core.tasks import EXPRESSIONS, LSD_CLASSES
from abaw.datasets.demo.film import PARTIAL
from abaw.datasets.demo.film_plan import check_empty
from abaw.datasets.demo.identity import draw_identity
from abaw.datasets.demo.latents import N_STAGINGS, N_VARIATIONS, compose_latents, compose_staging
from abaw.datasets.demo.scene import SceneRenderer
from abaw.datasets.lsd import TRAINING_FOLDER, VALIDATION_FOLDER

# Images of each class for training and for validation.
SIZES = {"tiny": (40, 20), "small": (150, 75), "large": (600, 200)}
IMAGES_PER_PERSON = 5  # of one class
LEAST_STRENGTH = 0.75  # how weak an expression may be, of 1
TRAINING_NAMES = {"Anger": "ANGRER"}


@dataclass(frozen=True)
class Look:
    """What images of one split look like.

    Attributes:
        folder: of the split.
        names: of class folders that are not the class in capitals.
        lamp: how far the light may come from a side, in shares of its strength.
        variation: how much position, angle, size, turn and light of a face vary; 1 as in a film of the demo.
        noise: standard deviation of the noise, in grey levels.
        jpeg_quality: of the files.
    """

    folder: str
    names: dict[str, str]
    lamp: float
    variation: float
    noise: float
    jpeg_quality: int


SYNTHETIC = Look(TRAINING_FOLDER, TRAINING_NAMES, lamp=0.05, variation=0.8, noise=0.5, jpeg_quality=95)
REAL = Look(VALIDATION_FOLDER, {}, lamp=0.3, variation=1.2, noise=8.0, jpeg_quality=75)


def n_images_of(size: str, seed: int = 0) -> int:
    """Number of images that `write_lsd_demo` draws; all seeds draw the same number."""
    return len(LSD_CLASSES) * sum(SIZES.get(size, ()))


def write_lsd_demo(
    root: Path, size: str = "tiny", seed: int = 0, on_frames: Callable[[int], None] = lambda n_frames: None
) -> None:
    """Write a demo dataset of images by class, 112x112 JPEG.

    Args:
        root: folder to create; it may exist if it is empty.
        size: a name of `SIZES`.
        seed: same size and seed, same images, byte by byte.
        on_frames: called after each split with the number of its images.

    Raises:
        UsageError: an unknown size, or `root` is not empty.
    """
    if size not in SIZES:
        raise UsageError(f"Unknown demo size {size!r}. Choose one of: {', '.join(SIZES)}.")
    root = check_empty(root)
    try:
        for split, (look, n_images) in enumerate(zip((SYNTHETIC, REAL), SIZES[size], strict=True)):
            _write_split(root / PARTIAL, look, n_images, (seed, split))
            (root / PARTIAL).replace(root / look.folder)
            on_frames(n_images * len(LSD_CLASSES))
    finally:
        shutil.rmtree(root / PARTIAL, ignore_errors=True)


def _write_split(folder: Path, look: Look, n_images: int, seed: tuple[int, int]) -> None:
    """Write the class folders of one split; people of different seeds differ."""
    folders = [folder / look.names.get(name, name.upper()) for name in LSD_CLASSES]
    for class_folder in folders:
        class_folder.mkdir(parents=True)
    for person in range(-(-n_images // IMAGES_PER_PERSON)):
        first = person * IMAGES_PER_PERSON
        n_each = min(IMAGES_PER_PERSON, n_images - first)
        for image, picture in enumerate(_draw(np.random.default_rng([*seed, person]), look, n_each)):
            file = folders[image // n_each] / f"{first + image % n_each}.jpg"
            with OutputStream(file) as stream:
                Image.fromarray(picture).save(stream, "JPEG", quality=look.jpeg_quality)


def _draw(rng: np.random.Generator, look: Look, n_each: int) -> list[NDArray]:
    """(112, 112, 3) uint8 RGB images of one person: `n_each` of the first class, then of the next."""
    n_images = n_each * len(LSD_CLASSES)
    classes = np.array([EXPRESSIONS.index(name) for name in LSD_CLASSES])
    identity = draw_identity(rng)
    latents = compose_latents(
        expression=np.eye(len(EXPRESSIONS))[classes.repeat(n_each)],
        strength=rng.uniform(LEAST_STRENGTH, 1, n_images),
        variation=rng.standard_normal((n_images, N_VARIATIONS - 1)),
        blink=np.zeros(n_images),
    )
    course = look.variation * rng.standard_normal((n_images, N_STAGINGS))
    staging = compose_staging(course, rng.uniform(-look.lamp, look.lamp))
    renderer = SceneRenderer(identity, latents, staging, rng, look.noise)
    return [renderer.crop(image, renderer.scene(image)) for image in range(n_images)]
