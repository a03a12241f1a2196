"""Simulated people and features: known courses of affect, seen through a random network and noise, in a real store."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from abaw.core.tasks import EXPRESSIONS
from abaw.datasets.demo.latents import Latents, latents_around, smooth_noise
from abaw.store import FeatureStore

RATE_HZ = 30.0
N_FRAMES = 400
WIDTH = 32  # values in a feature
N_HIDDEN = 48  # units of the random network that stands for a backbone
N_NUISANCES = 6  # smooth courses of what is not affect, such as pose and light
NUISANCE_S = 1.2  # standard deviation of the window that smooths them
OFFSET = 0.4  # standard deviation of what is a person's own in each hidden unit
FRAME_NOISE = 1.5  # standard deviation of the noise of a frame, the signal's being 1
FADE_S = 0.22  # of one expression into the next
PEOPLE = {"train": 16, "val": 6, "test": 10}  # nobody is in two splits


class Backbone:
    """A random network with one hidden layer: what a real backbone makes of what a face shows.

    Args:
        n_inputs: courses that it sees.
        width: values of the feature.
    """

    def __init__(self, rng: np.random.Generator, n_inputs: int, width: int = WIDTH) -> None:
        self._first = rng.normal(0, 2 / np.sqrt(n_inputs), (n_inputs, N_HIDDEN))
        self._second = rng.normal(0, 1, (N_HIDDEN, width))
        self._scale = self._outputs(rng.normal(0, 0.5, (2000, n_inputs)), np.zeros(N_HIDDEN)).std(axis=0)

    def mirrored(self, rng: np.random.Generator) -> "Backbone":
        """What the same network makes of mirrored pictures: almost the same, for no face is symmetric."""
        other = Backbone(rng, len(self._first), self._second.shape[1])
        other._first = 0.95 * self._first + np.sqrt(1 - 0.95**2) * other._first
        other._second, other._scale = self._second, self._scale
        return other

    def see(self, courses: NDArray, offset: NDArray) -> NDArray:
        """(frames, width) features without noise, of standard deviation about 1.

        Args:
            courses: (frames, n_inputs).
            offset: (N_HIDDEN,) or (frames, N_HIDDEN), the person's own.
        """
        return self._outputs(courses, offset) / self._scale

    def _outputs(self, courses: NDArray, offset: NDArray) -> NDArray:
        return np.tanh(courses @ self._first + offset) @ self._second


@dataclass(frozen=True)
class Person:
    """One video: what somebody feels, and what of it a camera sees.

    Attributes:
        split: of the video.
        latents: courses of affect.
        courses: (frames, inputs) of what the face shows, with pose and light.
        offset: (N_HIDDEN,) what is this person's own.
    """

    split: str
    latents: Latents
    courses: NDArray
    offset: NDArray

    @property
    def n_frames(self) -> int:
        """Length of the video."""
        return len(self.courses)

    def affect(self) -> NDArray:
        """(frames, 2) valence and arousal."""
        return np.column_stack([self.latents.valence, self.latents.arousal])

    def expressions(self) -> NDArray:
        """(frames, 1) labels of expressions."""
        return self.latents.expression_labels()[:, None]


def shown_by(latents: Latents) -> NDArray:
    """(frames, 23) what a face shows: everything but the blinks, each course of about the same size."""
    columns = [latents.valence, latents.arousal, latents.strength - 0.8, latents.expression - 1 / 8]
    return np.column_stack([*columns, latents.action_units - 0.2])


def draw_person(rng: np.random.Generator, split: str, chances: NDArray | None = None, tempo: float = 1.0) -> Person:
    """Draw one video.

    Args:
        chances: (8,) how often each expression begins a segment; alike by default.
        tempo: how much faster than in training everything goes, as in a video of fewer frames a second.
    """
    rate_hz = RATE_HZ / tempo
    latents = latents_around(rng, _expression_courses(rng, chances, rate_hz), rate_hz)
    nuisances = 0.5 * smooth_noise(rng, N_FRAMES, NUISANCE_S * rate_hz, N_NUISANCES)
    offset = rng.normal(0, OFFSET, N_HIDDEN)
    return Person(split, latents, np.column_stack([shown_by(latents), nuisances]), offset)


def draw_people(
    rng: np.random.Generator, chances: NDArray | None = None, counts: Mapping[str, int] = PEOPLE
) -> dict[str, Person]:
    """Draw the people of each split, by name of the video."""
    return {
        f"{split}-{number:02d}": draw_person(rng, split, chances)
        for split, count in counts.items()
        for number in range(count)
    }


def _expression_courses(rng: np.random.Generator, chances: NDArray | None, rate_hz: float) -> NDArray:
    """(N_FRAMES, 8) weights: segments of one expression, 0.8 to 2.4 s long, that fade into one another."""
    lengths = rng.uniform(0.8, 2.4, N_FRAMES) * rate_hz
    ends = np.cumsum(lengths)
    kinds = rng.choice(len(EXPRESSIONS), len(ends), p=chances)
    weights = np.eye(len(EXPRESSIONS))[kinds[np.searchsorted(ends, np.arange(N_FRAMES))]]
    return gaussian_filter1d(weights, FADE_S * rate_hz, axis=0, mode="nearest")


def noisy(rng: np.random.Generator, signal: NDArray, amount: float = FRAME_NOISE) -> NDArray:
    """A signal with white noise of a standard deviation on top."""
    return signal + amount * rng.standard_normal(signal.shape)


def gaps(rng: np.random.Generator, n_frames: int, share: float) -> NDArray[np.bool_]:
    """(n_frames,) bool, False for a share of the frames: half of these in runs of 10 to 60, half alone at random."""
    present = np.ones(n_frames, dtype=np.bool_)
    while (~present).sum() < share / 2 * n_frames:
        start, length = int(rng.integers(n_frames)), int(rng.integers(10, 61))
        present[start : start + length] = False
    left = np.flatnonzero(present)
    n_single = max(0, round(share * n_frames) - int((~present).sum()))
    present[rng.choice(left, n_single, replace=False)] = False
    return present


def new_store(path: Path, features: Mapping[str, str]) -> FeatureStore:
    """An empty store with some features.

    Args:
        features: modality (`vision` or `audio`) by name.
    """
    store = FeatureStore.create(path)
    for name, modality in features.items():
        spec = {"name": name, "modality": modality, "shape": [WIDTH], "dtype": "float16", "weights": "none"}
        store.add_feature(name, spec, None, hashlib.sha256(f"{path}/{name}".encode()).hexdigest())
    return store


def put(
    store: FeatureStore, feature: str, video: str, values: NDArray, present: NDArray[np.bool_] | None = None
) -> None:
    """Store the values (frames, WIDTH) of one video, where they are present."""
    rows = np.arange(len(values)) if present is None else np.flatnonzero(present)
    writer = store.writer(feature, video, len(values), rows, {"fps": RATE_HZ, "source": "simulated"})
    writer.write(rows, values[rows].astype(np.float32))
    writer.finish(allow_empty=True)


def label(store: FeatureStore, task: str, video: str, split: str, rows: NDArray) -> None:
    """Store the labels (rows, columns) of one video."""
    store.write_labels(task, video, split, rows.astype(np.float32))


def store_faces(rng: np.random.Generator, path: Path, people: Mapping[str, Person], task: str) -> FeatureStore:
    """A new store with the feature `face`, what one network sees of people, and their labels of a task, va or expr."""
    store = new_store(path, {"face": "vision"})
    backbone = Backbone(rng, next(iter(people.values())).courses.shape[1])
    for video, person in people.items():
        put(store, "face", video, noisy(rng, backbone.see(person.courses, person.offset)))
        label(store, task, video, person.split, person.affect() if task == "va" else person.expressions())
    return store
