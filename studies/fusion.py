"""Early fusion of face and voice, against either alone and against averaging the outputs of two models.

Built in, first: valence shows in the face alone and arousal in the voice alone, and the two have nothing to do with one
another. Second: both show in both. In training and test a fifth of the frames has no face and a tenth no voice, in runs
and alone, independently.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from abaw.core.tasks import VA
from abaw.datasets.demo.latents import smooth_noise
from abaw.evaluate.evaluation import Evaluation
from abaw.evaluate.scores.metrics import score
from abaw.store import FeatureStore
from studies.study import ENCODER, TRANSFORMER, Idea, Scores, Variants, train_and_evaluate
from studies.world import (
    N_FRAMES,
    N_HIDDEN,
    N_NUISANCES,
    NUISANCE_S,
    OFFSET,
    PEOPLE,
    RATE_HZ,
    Backbone,
    gaps,
    label,
    new_store,
    noisy,
    put,
)

COURSE_S = 0.6  # standard deviation of the window that smooths valence and arousal
SPREAD = 0.4  # their standard deviation
MISSING = {"face": 0.2, "voice": 0.1}
BOTH = ["face", "voice"]
VARIANTS: Variants = {
    "face alone": {"features": ["face"], "head": TRANSFORMER},
    "voice alone": {"features": ["voice"], "head": TRANSFORMER},
    "early fusion (transformer)": {"features": BOTH, "head": TRANSFORMER},
    "early fusion (encoder)": {"features": BOTH, "head": ENCODER},
    "linear probe (ridge) on both": {"features": BOTH, "head": {"name": "ridge"}},
}
AVERAGE = "average of the two models"
EACH = "each output of the model that is better on val"


def measure(seed: int, folder: Path) -> Scores:
    """Scores of every variant on people drawn with a seed."""
    scores: Scores = {}
    for setting, shared in (("valence in the face, arousal in the voice", False), ("both in both", True)):
        place = folder / f"shared-{shared}"
        store = make_store(np.random.default_rng([seed, 4]), place / "store.zarr", shared)
        found = {
            variant: train_and_evaluate(store, place, {"task": "va", **values}, seed, ("val", "test"))
            for variant, values in VARIANTS.items()
        }
        scores[setting] = {variant: by_split["test"].official.score for variant, by_split in found.items()}
        face, voice = found["face alone"], found["voice alone"]
        outputs = outputs_of(face["test"]), outputs_of(voice["test"])
        labels = np.concatenate([video.labels for video in face["test"].predictions.values()])
        scores[setting][AVERAGE] = score(VA, np.mean(outputs, axis=0), labels).score
        face_first = [face["val"].official.parts[name] >= voice["val"].official.parts[name] for name in VA.outputs]
        scores[setting][EACH] = score(VA, np.where(face_first, *outputs), labels).score
    return scores


def outputs_of(found: Evaluation) -> NDArray:
    """(rows, 2) predictions of all videos of an evaluation."""
    return np.concatenate([video.outputs for video in found.predictions.values()])


def make_store(rng: np.random.Generator, path: Path, shared: bool) -> FeatureStore:
    """People with independent valence and arousal; each feature shows one of them, or both."""
    store = new_store(path, {"face": "vision", "voice": "audio"})
    shown = {"face": [0, 1] if shared else [0], "voice": [0, 1] if shared else [1]}
    backbones = {name: Backbone(rng, 2 + N_NUISANCES) for name in shown}
    for split, count in PEOPLE.items():
        for video in (f"{split}-{number:02d}" for number in range(count)):
            affect = np.clip(SPREAD * smooth_noise(rng, N_FRAMES, COURSE_S * RATE_HZ, 2), -1, 1)
            label(store, "va", video, split, affect)
            for name, columns in shown.items():
                courses = np.zeros((N_FRAMES, 2 + N_NUISANCES))
                courses[:, columns] = 2 * affect[:, columns]
                courses[:, 2:] = 0.5 * smooth_noise(rng, N_FRAMES, NUISANCE_S * RATE_HZ, N_NUISANCES)
                values = noisy(rng, backbones[name].see(courses, rng.normal(0, OFFSET, N_HIDDEN)))
                put(store, name, video, values, gaps(rng, N_FRAMES, MISSING[name]))
    return store


IDEA = Idea(
    name="fusion",
    title="Fusion of face and voice (situ-va): valence and arousal, mean CCC",
    built_in=__doc__ or "",
    measure=measure,
    against={
        "early fusion (transformer)": ("face alone",),
        "early fusion (encoder)": ("face alone",),
        AVERAGE: ("early fusion (transformer)",),
        EACH: ("early fusion (transformer)",),
    },
)
