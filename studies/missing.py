"""Modality dropout and learned tokens, against a voice or a face that is missing in test videos alone.

Built in: face and voice both show valence and arousal, and are complete in the videos to train on and to choose the
epoch on. The test people come three times: with both, without the voice, and without the face, each but for one frame.
"""

from pathlib import Path

import numpy as np

from abaw.datasets.demo.latents import smooth_noise
from abaw.store import FeatureStore
from studies.gating import COURSE_S, GATED, SPREAD
from studies.study import Idea, Scores, Variants, train_and_evaluate
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

SETTINGS = {"test": "face and voice", "silent": "no voice at test", "faceless": "no face at test"}
LACKING = {"silent": "voice", "faceless": "face"}
PLAIN, DROPOUT = "neither", "modality dropout 0.3"
VARIANTS: Variants = {
    PLAIN: {"head": GATED},
    DROPOUT: {"head": {**GATED, "modality_dropout": 0.3}},
    "modality dropout 0.3 and learned tokens": {
        "head": {**GATED, "modality_dropout": 0.3, "mask_token": "learned"},
    },
}


def measure(seed: int, folder: Path) -> Scores:
    """Scores of every variant on people drawn with a seed."""
    store = make_store(np.random.default_rng([seed, 32]), folder / "store.zarr")
    scores: Scores = {setting: {} for setting in SETTINGS.values()}
    for variant, options in VARIANTS.items():
        values = {"task": "va", "features": ["face", "voice"], **options}
        found = train_and_evaluate(store, folder, values, seed, tuple(SETTINGS))
        for split, setting in SETTINGS.items():
            scores[setting][variant] = found[split].official.score
    return scores


def make_store(rng: np.random.Generator, path: Path) -> FeatureStore:
    """People whose face and voice show what they feel; those of the test once more without each."""
    store = new_store(path, {"face": "vision", "voice": "audio"})
    backbones = {name: Backbone(rng, 2 + N_NUISANCES) for name in ("face", "voice")}
    for split, count in PEOPLE.items():
        for video in (f"{split}-{number:02d}" for number in range(count)):
            affect = np.clip(SPREAD * smooth_noise(rng, N_FRAMES, COURSE_S * RATE_HZ, 2), -1, 1)
            copies = [split, *LACKING] if split == "test" else [split]
            for copy in copies:
                label(store, "va", f"{video}-{copy}", copy, affect)
            for name, backbone in backbones.items():
                nuisances = 0.5 * smooth_noise(rng, N_FRAMES, NUISANCE_S * RATE_HZ, N_NUISANCES)
                courses = np.column_stack([2 * affect, nuisances])
                values = noisy(rng, backbone.see(courses, rng.normal(0, OFFSET, N_HIDDEN)))
                for copy in copies:
                    there = np.arange(N_FRAMES) < (1 if LACKING.get(copy) == name else N_FRAMES)
                    put(store, name, f"{video}-{copy}", values, there)
    return store


IDEA = Idea(
    name="missing",
    title="Modality dropout and learned tokens (gated-av): valence and arousal, mean CCC",
    built_in=__doc__ or "",
    measure=measure,
    against={DROPOUT: (PLAIN,), "modality dropout 0.3 and learned tokens": (PLAIN, DROPOUT)},
)
