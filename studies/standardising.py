"""Z-scores of each frame by its own values (Situ-RUCAIM3), against z-scores of each value over the training videos.

Built in, first: nothing for or against it. Second: all values of a video are multiplied by one number (log-normal, of standard
deviation 0.4) and shifted by another (normal, 0.5), as by another gain; z-scores of a frame take out both.
"""

from pathlib import Path

import numpy as np

from studies.study import TRANSFORMER, Idea, Scores, Variants, train_and_evaluate
from studies.world import Backbone, draw_people, label, new_store, noisy, put

GAIN, SHIFT = 0.4, 0.5
SETTINGS = {"as in the other sections": False, "a gain and a shift of each video": True}
BY_TRAINING, BY_FRAME = "over the training videos", "of each frame (as published)"
VARIANTS: Variants = {
    BY_TRAINING: {"head": TRANSFORMER},
    BY_FRAME: {"head": TRANSFORMER, "standardise": "frame"},
    "linear probe (ridge)": {"head": {"name": "ridge"}},
}


def measure(seed: int, folder: Path) -> Scores:
    """Scores of every variant on people drawn with a seed, without and with gains."""
    rng = np.random.default_rng([seed, 10])
    people = draw_people(rng)
    backbone = Backbone(rng, next(iter(people.values())).courses.shape[1])
    values = {video: noisy(rng, backbone.see(person.courses, person.offset)) for video, person in people.items()}
    gains, shifts = np.exp(rng.normal(0, GAIN, len(people))), rng.normal(0, SHIFT, len(people))
    scores: Scores = {}
    for setting, is_scaled in SETTINGS.items():
        place = folder / f"scaled-{is_scaled}"
        store = new_store(place / "store.zarr", {"face": "vision"})
        for (video, person), gain, shift in zip(people.items(), gains, shifts, strict=True):
            put(store, "face", video, values[video] * gain + shift if is_scaled else values[video])
            label(store, "va", video, person.split, person.affect())
        scores[setting] = {
            variant: train_and_evaluate(store, place, {"task": "va", "features": ["face"], **options}, seed)[
                "test"
            ].official.score
            for variant, options in VARIANTS.items()
        }
    return scores


IDEA = Idea(
    name="standardising",
    title="Z-scores of each frame (situ-va): valence and arousal, mean CCC",
    built_in=__doc__ or "",
    measure=measure,
    against={BY_FRAME: (BY_TRAINING,)},
)
