"""Random masking of frames in training, against frames that are missing at test.

Built in: features of a frame carry noise and the person's own offset, so that neighbours help; videos to train on are
complete. The test people come twice: with every frame, and with a third of the frames missing, half of these in runs
of 10 to 60 frames (a lost face), half alone.
"""

from pathlib import Path

import numpy as np

from studies.study import TRANSFORMER, Idea, Scores, Variants, train_and_evaluate
from studies.world import Backbone, draw_people, gaps, label, new_store, noisy, put

MISSING = 1 / 3
SETTINGS = {"test": "all frames there", "gaps": "a third missing"}
VARIANTS: Variants = {
    "no masking": {"head": TRANSFORMER},
    "masking 0.3": {"head": {**TRANSFORMER, "mask_ratio": 0.3}},
    "masking 0.5": {"head": {**TRANSFORMER, "mask_ratio": 0.5}},
    "no masking, nearest frame fills gaps": {"head": TRANSFORMER, "missing": "nearest"},
    "each frame alone (mlp)": {"head": {"name": "mlp", "hidden": [128]}},
    "linear probe (ridge)": {"head": {"name": "ridge"}},
}


def measure(seed: int, folder: Path) -> Scores:
    """Scores of every variant on people drawn with a seed."""
    rng = np.random.default_rng([seed, 1])
    store = new_store(folder / "store.zarr", {"face": "vision"})
    people = draw_people(rng)
    backbone = Backbone(rng, next(iter(people.values())).courses.shape[1])
    for video, person in people.items():
        values = noisy(rng, backbone.see(person.courses, person.offset))
        put(store, "face", video, values)
        label(store, "va", video, person.split, person.affect())
        if person.split == "test":
            put(store, "face", f"{video}-gaps", values, gaps(rng, person.n_frames, MISSING))
            label(store, "va", f"{video}-gaps", "gaps", person.affect())
    scores: Scores = {setting: {} for setting in SETTINGS.values()}
    for variant, options in VARIANTS.items():
        wanted = {"task": "va", "features": ["face"], **options}
        found = train_and_evaluate(store, folder, wanted, seed, tuple(SETTINGS))
        for split, setting in SETTINGS.items():
            scores[setting][variant] = found[split].official.score
    return scores


IDEA = Idea(
    name="masking",
    title="Random masking of frames (random-masking-va): valence and arousal, mean CCC",
    built_in=__doc__ or "",
    measure=measure,
    against=dict.fromkeys(("masking 0.3", "masking 0.5", "no masking, nearest frame fills gaps"), ("no masking",)),
)
