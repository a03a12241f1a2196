"""Bins beside the CCC in the loss of valence and arousal (Situ-RUCAIM3).

Built in: nothing for or against it. People, features and noise are those of the other sections, all frames are there.
"""

from pathlib import Path

import numpy as np

from studies.study import TRANSFORMER, Idea, Scores, Variants, train_and_evaluate
from studies.world import draw_people, store_faces

VARIANTS: Variants = {
    "CCC": {"head": TRANSFORMER},
    "CCC and cross-entropy of 20 bins": {"head": TRANSFORMER, "loss": {"name": "ccc-bins"}},
    "linear probe (ridge)": {"head": {"name": "ridge"}},
}


def measure(seed: int, folder: Path) -> Scores:
    """Scores of every variant on people drawn with a seed."""
    rng = np.random.default_rng([seed, 8])
    people = draw_people(rng)
    store = store_faces(rng, folder / "store.zarr", people, "va")
    scores = {}
    for variant, options in VARIANTS.items():
        values = {"task": "va", "features": ["face"], **options}
        scores[variant] = train_and_evaluate(store, folder, values, seed)["test"].official.score
    return {"all frames there": scores}


IDEA = Idea(
    name="bins",
    title="Bins beside the CCC (situ-va with ccc-bins): valence and arousal, mean CCC",
    built_in=__doc__ or "",
    measure=measure,
    against={"CCC and cross-entropy of 20 bins": "CCC"},
)
