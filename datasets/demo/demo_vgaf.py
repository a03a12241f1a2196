"""A demo of VGAF's layout: short clips of a few drawn people together, whose faces and voices show one group emotion.

Most of a group feels alike, some of it does not; who is there, where they stand and the room have nothing to do with
the label.
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from abaw.core.errors import UsageError
from abaw.core.tasks import EXPRESSIONS, GROUP_EMOTIONS
from abaw.datasets.demo.face import FaceShapes
from abaw.datasets.demo.film import PARTIAL
from abaw.datasets.demo.film_plan import check_empty
from abaw.datasets.demo.identity import BACKGROUNDS, draw_identity, mix
from abaw.datasets.demo.latents import Latents, Staging, draw_staging, latents_around
from abaw.datasets.demo.parallel import write_in_parallel
from abaw.datasets.demo.scene import MIN_OPACITY, TURN, as_fill
from abaw.datasets.demo.shapes import Layer
from abaw.datasets.demo.voice import FilmWriter, speak

WIDTH_PX, HEIGHT_PX = 320, 180
SUPERSAMPLING = 2  # scenes are drawn this many times larger, then averaged down
RATE_HZ = 25
MIN_PEOPLE, MAX_PEOPLE = 3, 5
N_SPEAKERS = 2
FOLDERS = {"train": ("Train", "Train_labels.txt"), "val": ("Val", "Val_labels.txt")}
# How likely a person in a group of each emotion shows an expression.
MOODS = {
    "Positive": {"Happiness": 0.85, "Surprise": 0.05, "Neutral": 0.1},
    "Neutral": {"Neutral": 0.75, "Other": 0.2, "Happiness": 0.05},
    "Negative": {"Sadness": 0.35, "Anger": 0.3, "Fear": 0.15, "Disgust": 0.1, "Neutral": 0.1},
}


@dataclass(frozen=True)
class GroupSize:
    """Numbers of training and validation clips, and how long each is."""

    n_train: int
    n_val: int
    duration_s: float


SIZES = {"tiny": GroupSize(6, 6, 2.0), "small": GroupSize(30, 15, 5.0)}


@dataclass(frozen=True)
class GroupClip:
    """One clip: its name, split, label (0 Positive, 1 Neutral, 2 Negative), length, and the seed of all its choices."""

    name: str
    split: str
    emotion: int
    n_frames: int
    seed: tuple[int, ...]


def plan_clips(size: str = "tiny", seed: int = 0) -> tuple[GroupClip, ...]:
    """All clips of a demo without drawing one; the three emotions take turns in each split."""
    if size not in SIZES:
        raise UsageError(f"Unknown demo size {size!r}. Choose one of: {', '.join(SIZES)}.")
    numbers = SIZES[size]
    clips = [("train", number) for number in range(numbers.n_train)] + [
        ("val", number) for number in range(numbers.n_val)
    ]
    n_frames = round(numbers.duration_s * RATE_HZ)
    return tuple(
        GroupClip(f"{index + 1}_1", split, number % len(GROUP_EMOTIONS), n_frames, (seed, index))
        for index, (split, number) in enumerate(clips)
    )


def n_frames_of(size: str = "tiny", seed: int = 0) -> int:
    """Number of frames that `write_vgaf_demo` draws in total."""
    return sum(clip.n_frames for clip in plan_clips(size, seed))


def write_vgaf_demo(
    root: Path,
    size: str = "tiny",
    seed: int = 0,
    workers: int | None = None,
    on_frames: Callable[[int], None] | None = None,
) -> None:
    """Write clips with sound and their label files, `Train_labels.txt` and `Val_labels.txt`.

    Args:
        root: folder to create; it may exist if it is empty.
        size: a name of `SIZES`.
        seed: same size and seed, same labels and frames.
        workers: number of processes; by default one per processor.
        on_frames: called after each clip with the number of its frames.
    """
    clips = plan_clips(size, seed)
    root = check_empty(root)
    for folder in (PARTIAL, *(folder for folder, _ in FOLDERS.values())):
        (root / folder).mkdir(parents=True)
    report = on_frames or (lambda n_frames: None)
    n_workers = min(workers or os.cpu_count() or 1, len(clips))
    try:
        if n_workers == 1:
            for clip in clips:
                report(write_clip(root, clip))
        else:
            write_in_parallel(write_clip, root, clips, n_workers, report)
        for split in FOLDERS:
            _write_labels(root, split, clips)
    finally:
        shutil.rmtree(root / PARTIAL, ignore_errors=True)


def _write_labels(root: Path, split: str, clips: tuple[GroupClip, ...]) -> None:
    """Numbers from 1, as the organisers write them."""
    name = FOLDERS[split][1]
    lines = [f"{clip.name} {clip.emotion + 1}" for clip in clips if clip.split == split]
    waiting = root / PARTIAL / name
    waiting.write_text("\n".join(["Vid_name Label", *lines]) + "\n", encoding="utf-8", newline="\n")
    waiting.replace(root / name)


def write_clip(root: Path, clip: GroupClip) -> int:
    """Write one video file, which appears once it is complete; returns the number of its frames."""
    rng = np.random.default_rng([*clip.seed, 11])
    group = DrawnGroup(rng, GROUP_EMOTIONS[clip.emotion], clip.n_frames)
    arousals = [person.arousal for person in group.latents[:N_SPEAKERS]]
    voice = np.mean([speak(rng, arousal, RATE_HZ) for arousal in arousals], axis=0)
    waiting = root / PARTIAL / f"{clip.name}.mp4"
    with FilmWriter(waiting, WIDTH_PX, HEIGHT_PX, RATE_HZ, [voice]) as writer:
        for frame in range(clip.n_frames):
            writer.write(group.draw(frame))
    waiting.replace(root / FOLDERS[clip.split][0] / waiting.name)
    return clip.n_frames


class DrawnGroup:
    """Some people in a room.

    Args:
        rng: source of randomness.
        emotion: the emotion of the group.
        n_frames: how long they are filmed.
    """

    def __init__(self, rng: np.random.Generator, emotion: str, n_frames: int) -> None:
        n_people = int(rng.integers(MIN_PEOPLE, MAX_PEOPLE + 1))
        self.latents = [_feel(rng, emotion, n_frames) for _ in range(n_people)]
        self._wall = BACKGROUNDS[int(rng.integers(len(BACKGROUNDS)))]
        seats = _seat(rng, n_people)
        # they sit behind a table, which hides where the drawn bodies end
        self._table_y = round(SUPERSAMPLING * min(y + 1.8 * half_width for _, y, half_width in seats))
        self._layers: list[tuple[list[list[float]], list[tuple[int, ...]]]] = []
        for seat, latents in zip(seats, self.latents, strict=True):
            staging = draw_staging(rng, n_frames, RATE_HZ)
            shapes = FaceShapes(draw_identity(rng), latents)
            self._layers += [_to_pixels(layer, staging, seat) for layer in shapes.layers]

    def draw(self, frame: int) -> NDArray[np.uint8]:
        """(180, 320, 3) uint8 RGB picture of frame `frame`."""
        size = (WIDTH_PX * SUPERSAMPLING, HEIGHT_PX * SUPERSAMPLING)
        image = Image.new("RGB", size, as_fill(self._wall))
        draw = ImageDraw.Draw(image, "RGBA")
        for corners, fills in self._layers:
            if fills[frame][3] >= MIN_OPACITY:
                draw.polygon(corners[frame], fill=fills[frame])
        draw.rectangle((0, self._table_y, *size), fill=as_fill(mix(self._wall, (90, 70, 50), 0.5)))
        return np.asarray(image.reduce(SUPERSAMPLING))


def _feel(rng: np.random.Generator, emotion: str, n_frames: int) -> Latents:
    """What one person of a group feels, the same expression throughout."""
    mood = MOODS[emotion]
    expression = rng.choice(list(mood), p=list(mood.values()))
    weights = np.zeros((n_frames, len(EXPRESSIONS)))
    weights[:, EXPRESSIONS.index(str(expression))] = 1
    return latents_around(rng, weights, RATE_HZ)


def _seat(rng: np.random.Generator, n_people: int) -> list[tuple[float, float, float]]:
    """Middle (x, y) and half crop width of each face in pixels, side by side, those behind first."""
    step = WIDTH_PX / n_people
    x = (np.arange(n_people) + 0.5) * step + rng.uniform(-0.1, 0.1, n_people) * step
    nearness = rng.uniform(0, 1, n_people)
    y = HEIGHT_PX * (0.38 + 0.14 * nearness)
    size = (0.42 + 0.12 * nearness) * min(step, 75)
    return [(float(x[i]), float(y[i]), float(size[i])) for i in np.argsort(nearness)]


def _to_pixels(
    layer: Layer, staging: Staging, seat: tuple[float, float, float]
) -> tuple[list[list[float]], list[tuple[int, ...]]]:
    """Corners of a layer on the large canvas and its fill, per frame."""
    x, y, half_width = seat
    points = layer.points + (TURN * layer.depth * staging.turn)[:, None]
    cosine, sine = np.cos(staging.angle), np.sin(staging.angle)
    rotation = np.stack([np.stack([cosine, sine], -1), np.stack([-sine, cosine], -1)], 1)
    points = staging.scale[:, None, None] * (points @ rotation) + staging.shift[:, None]
    pixels = (points * half_width + (x, y)) * SUPERSAMPLING
    opacity = np.rint(255 * layer.opacity).astype(int).tolist()
    return pixels.reshape(len(pixels), -1).tolist(), [as_fill((*layer.colour, alpha)) for alpha in opacity]
