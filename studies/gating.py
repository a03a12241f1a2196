"""A gate by frame and feature, against a plain sum and against early fusion, where features go bad for a while.

Built in: face and voice both show valence and arousal. In training and test each of them is worthless for half of the
time, in runs of 10 to 60 frames and single frames, independently: there it is noise of six times the usual spread, as
from a wrong face or a loud street, and no mask says so. No variant hides features in training. The first three look
at each frame alone; two more have an encoder of one layer over time. Made harder after a trial with seed 99, in which
all variants scored too high to tell them apart; seeds 0 to 4 then ran once.
"""

from pathlib import Path

import numpy as np

from abaw.datasets.demo.latents import smooth_noise
from abaw.store import FeatureStore
from studies.study import Idea, Options, Scores, Variants, train_and_evaluate
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
BAD = 1 / 2  # share of the frames
BAD_SPREAD = 6.0
SETTING = "each feature bad half of the time"
GATED: Options = {
    **{"name": "gated", "dim": 64, "layers": 1, "heads": 2, "feedforward": 64},
    **{"modality_dropout": 0.0, "mask_token": "zero"},
}
FRAMES_ALONE: Options = {**GATED, "layers": 0}
VARIANTS: Variants = {
    "sum without a gate": {"head": {**FRAMES_ALONE, "gate": "none"}},
    "early fusion (mlp)": {"head": {"name": "mlp", "hidden": [128]}},
    "gated": {"head": FRAMES_ALONE},
    "sum without a gate, encoder": {"head": {**GATED, "gate": "none"}},
    "gated, encoder": {"head": GATED},
    "linear probe (ridge)": {"head": {"name": "ridge"}},
}


def measure(seed: int, folder: Path) -> Scores:
    """Scores of every variant on people drawn with a seed."""
    store = make_store(np.random.default_rng([seed, 31]), folder / "store.zarr")
    scores = {}
    for variant, options in VARIANTS.items():
        values = {"task": "va", "features": ["face", "voice"], **options}
        scores[variant] = train_and_evaluate(store, folder, values, seed)["test"].official.score
    return {SETTING: scores}


def make_store(rng: np.random.Generator, path: Path) -> FeatureStore:
    """People whose face and voice show what they feel, except where one of them is bad."""
    store = new_store(path, {"face": "vision", "voice": "audio"})
    backbones = {name: Backbone(rng, 2 + N_NUISANCES) for name in ("face", "voice")}
    for split, count in PEOPLE.items():
        for video in (f"{split}-{number:02d}" for number in range(count)):
            affect = np.clip(SPREAD * smooth_noise(rng, N_FRAMES, COURSE_S * RATE_HZ, 2), -1, 1)
            label(store, "va", video, split, affect)
            for name, backbone in backbones.items():
                nuisances = 0.5 * smooth_noise(rng, N_FRAMES, NUISANCE_S * RATE_HZ, N_NUISANCES)
                courses = np.column_stack([2 * affect, nuisances])
                values = noisy(rng, backbone.see(courses, rng.normal(0, OFFSET, N_HIDDEN)))
                good = gaps(rng, N_FRAMES, BAD)
                values[~good] = BAD_SPREAD * rng.standard_normal((int((~good).sum()), values.shape[1]))
                put(store, name, video, values)
    return store


IDEA = Idea(
    name="gating",
    title="A gate by frame and feature (gated-av): valence and arousal, mean CCC",
    built_in=__doc__ or "",
    measure=measure,
    against={
        "gated": ("sum without a gate", "early fusion (mlp)"),
        "gated, encoder": ("sum without a gate, encoder",),
    },
)
