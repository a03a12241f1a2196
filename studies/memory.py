"""Selective state spaces, against other heads over time, where what is felt began seconds ago.

Built in: valence jumps to a new value at events 1 to 2 s apart, and stays there. A face shows its value for 5 frames
at the event, and at random moments flashes of the same kind that mean nothing: only a further course, shown with it,
tells an event from a flash. So a head has to keep the value of the last event and to leave out all else. Arousal is a
smooth course that every frame shows. Made smaller for time before the figures were taken; seeds 0 to 4 ran once.
"""

from pathlib import Path

import numpy as np

from abaw.datasets.demo.latents import smooth_noise
from abaw.store import FeatureStore
from studies.study import TRANSFORMER, Idea, Options, Scores, Variants, train_and_evaluate
from studies.world import (
    N_FRAMES,
    N_HIDDEN,
    N_NUISANCES,
    NUISANCE_S,
    OFFSET,
    PEOPLE,
    RATE_HZ,
    Backbone,
    label,
    new_store,
    noisy,
    put,
)

COURSE_S = 0.6  # standard deviation of the window that smooths arousal
N_SHOWN = 5  # frames of an event or a flash
NOISE = 0.75  # standard deviation, half of the usual
WINDOWS = {"window": 100, "stride": 100}
SETTING = "valence since the last event"
MAMBA: Options = {"name": "mamba", "dim": 64, "layers": 1, "states": 8, "dropout": 0.0}
VARIANTS: Variants = {
    "each frame alone (mlp)": {"head": {"name": "mlp", "hidden": [128]}},
    "transformer": {"head": {**TRANSFORMER, "layers": 1}},
    "lstm": {"head": {"name": "lstm", "dim": 64, "dropout": 0.0}},
    "mamba": {"head": MAMBA},
    "mamba in both directions": {"head": {**MAMBA, "bidirectional": True}},
}


def measure(seed: int, folder: Path) -> Scores:
    """Scores of every variant on people drawn with a seed."""
    store = make_store(np.random.default_rng([seed, 36]), folder / "store.zarr")
    scores = {}
    for variant, options in VARIANTS.items():
        values = {"task": "va", "features": ["face"], **WINDOWS, **options}
        scores[variant] = train_and_evaluate(store, folder, values, seed)["test"].official.score
    return {SETTING: scores}


def make_store(rng: np.random.Generator, path: Path) -> FeatureStore:
    """People whose valence is that of the last event."""
    store = new_store(path, {"face": "vision"})
    backbone = Backbone(rng, 3 + N_NUISANCES)
    for split, count in PEOPLE.items():
        for video in (f"{split}-{number:02d}" for number in range(count)):
            courses = np.zeros((N_FRAMES, 3 + N_NUISANCES))
            valence = np.zeros(N_FRAMES)
            for start in _moments(rng, 1, 2):
                value = rng.uniform(-1, 1)
                valence[start:] = value
                courses[start : start + N_SHOWN, :2] = 2 * value, 2
            for start in _moments(rng, 0.5, 1.5):
                if not courses[start : start + N_SHOWN, 1].any():
                    courses[start : start + N_SHOWN, :2] = 2 * rng.uniform(-1, 1), -2
            arousal = np.clip(0.4 * smooth_noise(rng, N_FRAMES, COURSE_S * RATE_HZ, 1), -1, 1)
            courses[:, 2:3] = 2 * arousal
            courses[:, 3:] = 0.5 * smooth_noise(rng, N_FRAMES, NUISANCE_S * RATE_HZ, N_NUISANCES)
            put(store, "face", video, noisy(rng, backbone.see(courses, rng.normal(0, OFFSET, N_HIDDEN)), NOISE))
            label(store, "va", video, split, np.column_stack([valence, arousal]))
    return store


def _moments(rng: np.random.Generator, least_s: float, most_s: float) -> list[int]:
    """Frames that follow one another at random times, from the first frame on."""
    moments = np.cumsum([0, *rng.uniform(least_s, most_s, N_FRAMES) * RATE_HZ]).astype(int)
    return [int(moment) for moment in moments if moment < N_FRAMES]


IDEA = Idea(
    name="memory",
    title="Selective state spaces (mamba): valence and arousal, mean CCC",
    built_in=__doc__ or "",
    measure=measure,
    against={"mamba": ("each frame alone (mlp)", "transformer", "lstm"), "mamba in both directions": ("mamba",)},
)
